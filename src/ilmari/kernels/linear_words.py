"""Linear layer with int8 weights and 16-bit activations where only 16-bit integers have a dot product (AVX2).

Weights become 16-bit integers in registers. A product of two such is exact in int32, where a chunk's are summed, and no
instruction on the way saturates. Chunks are added in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm.script import tirx as T

from ilmari.kernels.byte_dot import dot_words, every_lane
from ilmari.kernels.form import CHUNK, WORDS, chunks
from ilmari.kernels.isa import Isa
from ilmari.kernels.linear_kernel import by_tiles, integer_kernel, store
from ilmari.kernels.plan import LinearShape

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc

ROWS = 3  # tokens in a register tile


def linear_words(isa: Isa, shape: LinearShape) -> PrimFunc:
    """Y[m, n] (+)= scale[m] * channel_scale[n] * X[m, k] @ W.T

    X, correction and scale are the form `words`; W is [n/block, k/4, block*4] uint8 (see `packing`). Y is float32;
    `accumulate` adds to it: the residual.
    """
    lanes, block = isa.lanes, shape.block
    k, accumulate, vectors = shape.k, shape.accumulate, block // lanes
    words, steps = 2 * lanes, lanes // 2

    @T.inline
    def tile(rows, first, nb, X, correction, scale, W, channel_scale, Y):
        acc = T.alloc_buffer((rows * block,), "int32", scope="local", annotations={"disable_lower_builtin": True})
        sums = T.alloc_buffer((rows * block,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        for chunk in T.serial(chunks(k)):
            for i in T.unroll(rows):
                for j in T.unroll(vectors):
                    acc[T.ramp((i * vectors + j) * lanes, 1, lanes)] = T.broadcast(correction[first + i, chunk], lanes)
            for run in T.serial(T.min(CHUNK, k - chunk * CHUNK) // (2 * lanes)):
                for step in T.unroll(steps):
                    for j in T.unroll(vectors):
                        at: T.let = chunk * CHUNK + run * 2 * lanes
                        stored: T.let = T.reinterpret(
                            W[nb, at // 4 + step, T.ramp(j * lanes * 4, 1, lanes * 4)], dtype=f"uint16x{words}"
                        )
                        even: T.let = T.reinterpret(stored & T.broadcast(T.uint16(255), words), dtype=f"int16x{words}")
                        odd: T.let = T.reinterpret(stored >> T.broadcast(T.uint16(8), words), dtype=f"int16x{words}")
                        for i in T.unroll(rows):
                            total: T.let = acc[T.ramp((i * vectors + j) * lanes, 1, lanes)]
                            a_even: T.let = every_lane(isa, X[first + i, T.ramp(at + step * 2, 1, 2)], "int16")
                            a_odd: T.let = every_lane(isa, X[first + i, T.ramp(at + lanes + step * 2, 1, 2)], "int16")
                            acc[T.ramp((i * vectors + j) * lanes, 1, lanes)] = dot_words(
                                isa, dot_words(isa, total, a_even, even), a_odd, odd
                            )
            for i in T.unroll(rows):
                for j in T.unroll(vectors):
                    chunk_sum: T.let = T.cast(acc[T.ramp((i * vectors + j) * lanes, 1, lanes)], f"float32x{lanes}")
                    before: T.let = sums[T.ramp((i * vectors + j) * lanes, 1, lanes)]
                    sums[T.ramp((i * vectors + j) * lanes, 1, lanes)] = T.Select(
                        chunk == 0, chunk_sum, before + chunk_sum
                    )
        for i in T.unroll(rows):
            for j in T.unroll(vectors):
                columns: T.let = nb * block + j * lanes
                factor: T.let = channel_scale[T.ramp(columns, 1, lanes)] * T.broadcast(scale[first + i, 0], lanes)
                value: T.let = sums[T.ramp((i * vectors + j) * lanes, 1, lanes)] * factor
                store(lanes, accumulate, first + i, columns, value, Y)

    return integer_kernel(WORDS, shape, by_tiles(ROWS, tile))
