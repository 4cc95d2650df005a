"""Linear layer with float32 activations: 16-bit float weights, or int8 weights on CPUs without byte dot products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tvm.script import tirx as T

from ilmari.kernels.form import FLOAT32
from ilmari.kernels.isa import Isa, fma
from ilmari.kernels.linear_kernel import by_tiles, float_kernel, store
from ilmari.kernels.numeric import widen
from ilmari.kernels.plan import LinearShape

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
    k, accumulate, vectors = shape.k, shape.accumulate, block // lanes

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
                store(lanes, accumulate, first + i, n0, value, Y)

    return float_kernel(FLOAT32, shape, dtype, by_tiles(ROWS, tile))


def linear_float_reference(
    x: NDArray[np.float32], weight: NDArray[Any], channel_scale: NDArray[np.float32]
) -> NDArray[np.float64]:
    """What `linear_float` computes, from the weight [n, k] before it is packed."""
    return x.astype(np.float64) @ weight.astype(np.float64).T * channel_scale
