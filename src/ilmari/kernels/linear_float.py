"""Linear layer with float32 activations: float16 weights, or int8 weights on CPUs without byte dot products."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm.script import tirx as T

from ilmari.kernels.isa import Isa, fma
from ilmari.kernels.numeric import widen
from ilmari.kernels.plan import LinearShape

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc

K_STEP = 1
ROWS = 4  # tokens in a register tile


def linear_float(isa: Isa, shape: LinearShape, dtype: str) -> PrimFunc:
    """Y[m, n] (+)= channel_scale[n] * X[m, k] @ W.T

    X and Y are float32, W is [n/block, k, block] of `dtype` (float16 or int8, see `packing`), channel_scale is float32
    (ones for float16). `accumulate` adds to Y: the residual.
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
        x: T.handle, W: T.Buffer((n // block, k, block), dtype), channel_scale: T.Buffer((n,), "float32"), y: T.handle
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
