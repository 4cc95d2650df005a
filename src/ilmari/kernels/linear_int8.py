"""Linear layer with int8 weights and 16-bit activations by byte dot products (VNNI).

An activation is a 16-bit number in two bytes, and each byte is multiplied by its own dot product:

    x = scale * (256 * (high - 128) + low),   high, low in 0..255
    sum_k x[k] w[k] = scale * (256 * (sum high w - 128 * sum w) + sum low w)

Both sums are exact in int32 up to K = 65,536, so the only errors are the rounding of x to 16 bits, and of the two sums
and the result to float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tvm.script import tirx as T

from ilmari.kernels.isa import Isa
from ilmari.kernels.plan import BYTE_DOT_STEP as K_STEP
from ilmari.kernels.plan import QUANTIZED_CHUNK as CHUNK
from ilmari.kernels.plan import LinearShape

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tvm.tirx import PrimFunc

STEPS = CHUNK // K_STEP
ROWS = 3  # tokens in a register tile: two accumulators each, where a float product has one


def linear_int8(isa: Isa, shape: LinearShape) -> PrimFunc:
    """Y[m, n] (+)= row_scale[m] * channel_scale[n] * (256 * (X[m, high] - 128) + X[m, low]) @ W.T

    X is [m, k/16, 2, 16] uint8 (sixteen high bytes, sixteen low bytes, see `quantize_rows`), W is
    [n/block, k/4, block*4] int8 (see `packing`), channel_sum is 128 times the sum of each channel's weights, int32.
    `accumulate` adds to Y: the residual.
    """
    lanes, block = isa.lanes, shape.block
    n, k, accumulate, vectors = shape.n, shape.k, shape.accumulate, block // lanes

    @T.inline
    def dot(acc, at, x, row, chunk, step, half, W, nb, j):
        acc[T.ramp(at, 1, lanes)] = T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpdpbusd.512"),
            acc[T.ramp(at, 1, lanes)],
            T.reinterpret(
                T.broadcast(T.reinterpret(x[row, chunk, half, T.ramp(step * K_STEP, 1, K_STEP)], dtype="int32"), lanes),
                dtype=f"uint8x{lanes * K_STEP}",
            ),
            W[nb, chunk * STEPS + step, T.ramp(j * lanes * K_STEP, 1, lanes * K_STEP)],
            dtype=f"int32x{lanes}",
        )

    @T.inline
    def tile(rows, first, nb, X, W, row_scale, channel_scale, channel_sum, Y):
        acc = T.alloc_buffer((rows * 2 * block,), "int32", scope="local", annotations={"disable_lower_builtin": True})
        for t in T.unroll(rows * 2 * vectors):
            acc[T.ramp(t * lanes, 1, lanes)] = T.broadcast(T.int32(0), lanes)
        for chunk in T.serial(k // CHUNK):
            for step in T.unroll(STEPS):
                for i in T.unroll(rows * 2):
                    for j in T.unroll(vectors):
                        dot(acc, (i * vectors + j) * lanes, X, first + i // 2, chunk, step, i % 2, W, nb, j)
        for i in T.unroll(rows):
            for j in T.unroll(vectors):
                n0: T.let = nb * block + j * lanes
                high: T.let = acc[T.ramp((2 * i * vectors + j) * lanes, 1, lanes)] - channel_sum[T.ramp(n0, 1, lanes)]
                low: T.let = acc[T.ramp(((2 * i + 1) * vectors + j) * lanes, 1, lanes)]
                upper: T.let = T.cast(high, f"float32x{lanes}") * T.broadcast(T.float32(256), lanes)
                total: T.let = upper + T.cast(low, f"float32x{lanes}")
                value: T.let = total * channel_scale[T.ramp(n0, 1, lanes)] * T.broadcast(row_scale[first + i], lanes)
                if accumulate:
                    Y[first + i, T.ramp(n0, 1, lanes)] = Y[first + i, T.ramp(n0, 1, lanes)] + value
                else:
                    Y[first + i, T.ramp(n0, 1, lanes)] = value

    @T.prim_func
    def kernel(
        x: T.handle,
        W: T.Buffer((n // block, k // K_STEP, block * K_STEP), "int8"),
        channel_scale: T.Buffer((n,), "float32"),
        channel_sum: T.Buffer((n,), "int32"),
        scale: T.handle,
        y: T.handle,
    ):
        m = T.int32()
        X = T.match_buffer(x, (m, k // CHUNK, 2, CHUNK), "uint8")
        row_scale = T.match_buffer(scale, (m,), "float32")
        Y = T.match_buffer(y, (m, n), "float32")
        for nb in T.parallel(n // block):
            for mb in T.serial(m // ROWS):
                tile(ROWS, mb * ROWS, nb, X, W, row_scale, channel_scale, channel_sum, Y)
            if m % ROWS == 2:
                tile(2, m - 2, nb, X, W, row_scale, channel_scale, channel_sum, Y)
            if m % ROWS == 1:
                tile(1, m - 1, nb, X, W, row_scale, channel_scale, channel_sum, Y)

    return kernel


def linear_int8_reference(
    x: NDArray[np.int64], weight: NDArray[np.int8], row_scale: NDArray[np.float32], channel_scale: NDArray[np.float32]
) -> NDArray[np.float64]:
    """What `linear_int8` computes, from signed 16-bit integers x [m, k] and the weight [n, k] before it is packed."""
    scale = np.outer(row_scale.astype(np.float64), channel_scale.astype(np.float64))
    return (x @ weight.astype(np.int64).T) * scale
