"""Linear layer with float32 activations: 16-bit float weights, or int8 weights on CPUs without byte dot products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tvm.script import tirx as T

from ilmari.kernels.isa import Isa, fma
from ilmari.kernels.numeric import widen
from ilmari.kernels.plan import LinearShape
from ilmari.kernels.scheme import storage

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tvm.tirx import PrimFunc

ROWS = 4  # tokens in a register tile


def linear_float(isa: Isa, shape: LinearShape, dtype: str) -> PrimFunc:
    """Y[m, n] (+)= channel_scale[n] * X[m, k] @ W.T

    X and Y are float32, W is [n/block, k, block] of `dtype` (float16, int8, or bfloat16 as uint16, see `packing`),
    channel_scale is float32 (a power of two for float16, see `quant.scaled_half`). `accumulate` adds to Y: the
    residual.
    """
    lanes, block = isa.lanes, shape.block
    n, k, accumulate, vectors = shape.n, shape.k, shape.accumulate, block // lanes

    @T.inline
    def tile(rows, first, nb, X, W, channel_scale, Y):
        acc = T.alloc_buffer((rows * block,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        for t in T.unroll(rows * vectors):
            acc[T.ramp(t * lanes, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for step in T.serial(k):
            for j in T.unroll(vectors):
                weight: T.let = widen(isa, W[nb, step, T.ramp(j * lanes, 1, lanes)], dtype)
                for i in T.unroll(rows):
                    acc[T.ramp((i * vectors + j) * lanes, 1, lanes)] = fma(
                        isa,
                        weight,
                        T.broadcast(X[first + i, step], lanes),
                        acc[T.ramp((i * vectors + j) * lanes, 1, lanes)],
                    )
        for i in T.unroll(rows):
            for j in T.unroll(vectors):
                n0: T.let = nb * block + j * lanes
                value: T.let = acc[T.ramp((i * vectors + j) * lanes, 1, lanes)] * channel_scale[T.ramp(n0, 1, lanes)]
                if accumulate:
                    Y[first + i, T.ramp(n0, 1, lanes)] = Y[first + i, T.ramp(n0, 1, lanes)] + value
                else:
                    Y[first + i, T.ramp(n0, 1, lanes)] = value

    @T.prim_func
    def kernel(
        x: T.handle,
        W: T.Buffer((n // block, k, block), storage(dtype)),
        channel_scale: T.Buffer((n,), "float32"),
        y: T.handle,
    ):
        m = T.int32()
        X = T.match_buffer(x, (m, k), "float32")
        Y = T.match_buffer(y, (m, n), "float32")
        for nb in T.parallel(n // block):
            for mb in T.serial(m // ROWS):
                tile(ROWS, mb * ROWS, nb, X, W, channel_scale, Y)
            if m % ROWS == 3:
                tile(3, m - 3, nb, X, W, channel_scale, Y)
            if m % ROWS == 2:
                tile(2, m - 2, nb, X, W, channel_scale, Y)
            if m % ROWS == 1:
                tile(1, m - 1, nb, X, W, channel_scale, Y)

    return kernel


def linear_float_reference(
    x: NDArray[np.float32], weight: NDArray[Any], channel_scale: NDArray[np.float32]
) -> NDArray[np.float64]:
    """What `linear_float` computes, from the weight [n, k] before it is packed."""
    return x.astype(np.float64) @ weight.astype(np.float64).T * channel_scale
