"""Linear layer for many rows by bfloat16 dot products (AVX512-BF16), twice as fast as float32 multiply-adds.

The weights of a block of channels are brought once into the order that the instruction reads, a panel that stays in
cache while all rows are multiplied by it. Products of bfloat16 numbers are exact in float32, where they are summed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tvm.script import tirx as T

from ilmari.kernels.bfloat16_dot import dot_bfloat16, with_dot
from ilmari.kernels.form import BFLOAT16
from ilmari.kernels.isa import Isa
from ilmari.kernels.linear_kernel import float_kernel, store
from ilmari.kernels.numeric import bfloat16_bits, widen
from ilmari.kernels.plan import LinearShape

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tvm.tirx import PrimExpr, PrimFunc

ROWS = 6  # tokens in a register tile
PANEL = 1024  # pairs of inputs in a panel: with 64 channels a quarter of a megabyte


def linear_bfloat16(isa: Isa, shape: LinearShape, dtype: str) -> PrimFunc:
    """Y[m, n] (+)= channel_scale[n] * X[m, k] @ bfloat16(W).T

    X is bfloat16 as uint16 (see `form`); Y float32; W, of `dtype` float16 or bfloat16, and channel_scale as in
    `linear_float`. `accumulate` adds to Y: the residual.
    """
    lanes, block = isa.lanes, shape.block
    k, accumulate, vectors = shape.k, shape.accumulate, block // lanes
    pairs = min(PANEL, k // 2)
    panels = -(-k // (2 * pairs))

    def low_half(weight: PrimExpr) -> PrimExpr:
        """One weight's bits in each uint32 lane."""
        if dtype == "bfloat16":
            return T.cast(weight, f"uint32x{lanes}")
        return bfloat16_bits(isa, widen(isa, weight, dtype))

    @T.inline
    def fill(panel, nb, start, steps, W):
        """Two inputs of each channel side by side."""
        for step in T.serial(steps):
            for j in T.unroll(vectors):
                even: T.let = low_half(W[nb, 2 * (start + step), T.ramp(j * lanes, 1, lanes)])
                odd: T.let = low_half(W[nb, 2 * (start + step) + 1, T.ramp(j * lanes, 1, lanes)])
                both: T.let = even | (odd << T.broadcast(T.uint32(16), lanes))
                panel[step, T.ramp(j * lanes, 1, lanes)] = T.reinterpret(both, dtype=f"int32x{lanes}")

    @T.inline
    def tile(first, nb, start, steps, add, X, panel, channel_scale, Y, m):
        acc = T.alloc_buffer((ROWS * block,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        for t in T.unroll(ROWS * vectors):
            acc[T.ramp(t * lanes, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for step in T.serial(steps):
            for i in T.unroll(ROWS):
                # Beyond the last row the last one is computed again, and not stored.
                x: T.let = X[T.min(first + i, m - 1), T.ramp(2 * (start + step), 1, 2)]
                for j in T.unroll(vectors):
                    acc[T.ramp((i * vectors + j) * lanes, 1, lanes)] = dot_bfloat16(
                        acc[T.ramp((i * vectors + j) * lanes, 1, lanes)],
                        T.broadcast(T.reinterpret(x, dtype="int32"), lanes),
                        panel[step, T.ramp(j * lanes, 1, lanes)],
                    )
        for i in T.unroll(ROWS):
            if first + i < m:
                for j in T.unroll(vectors):
                    n0: T.let = nb * block + j * lanes
                    total: T.let = acc[T.ramp((i * vectors + j) * lanes, 1, lanes)]
                    value: T.let = total * channel_scale[T.ramp(n0, 1, lanes)]
                    store(lanes, add, first + i, n0, value, Y)

    @T.inline
    def product(nb, start, steps, add, X, W, panel, channel_scale, Y, m):
        """Y (+)= the inputs from pair `start` on, as many as the panel holds."""
        fill(panel, nb, start, steps, W)
        for mb in T.serial((m + ROWS - 1) // ROWS):
            tile(mb * ROWS, nb, start, steps, add, X, panel, channel_scale, Y, m)

    @T.inline
    def multiply(m, nb, X, W, channel_scale, Y):
        panel = T.alloc_buffer((pairs, block), "int32")
        product(nb, 0, pairs, accumulate, X, W, panel, channel_scale, Y, m)
        for p in T.serial(1, panels):
            product(nb, p * pairs, T.min(pairs, k // 2 - p * pairs), True, X, W, panel, channel_scale, Y, m)

    return with_dot(float_kernel(BFLOAT16, shape, dtype, multiply))


def linear_bfloat16_reference(
    x: NDArray[np.float32], weight: NDArray[Any], channel_scale: NDArray[np.float32]
) -> NDArray[np.float64]:
    """What `linear_bfloat16` computes, from x [m, k] and the weight [n, k] that bfloat16 holds exactly."""
    return x.astype(np.float64) @ weight.astype(np.float64).T * channel_scale
