"""Linear layer with int8 weights and 16-bit activations for many rows, with fewer multiplications than multiply-adds.

Winograd's inner product (1968) trades half of the multiplications for additions:

    a0 b0 + a1 b1 = (a0 + b1) (a1 + b0) - a0 a1 - b0 b1

What is subtracted depends on one row or on one channel alone, and is summed once for all. CPUs with ports for vector
additions beside those for multiplications gain by it. A sum of an activation and a stored weight fits into int16 (see
`quantize_int16.LEVELS`), everything is exact modulo 2**32, and so is the result, because over a chunk of inputs it
fits into int32. Chunks are added in float32.

To keep both kinds of ports busy, `isa.traded` of four groups of inputs are computed so and the others directly; which
of them, changes from each vector of channels to the next, so that the two kinds alternate closely.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm.script import tirx as T

from ilmari.kernels.byte_dot import dot_words, every_lane
from ilmari.kernels.form import CHUNK, CLASSES, PAIRS, chunks
from ilmari.kernels.isa import Isa
from ilmari.kernels.linear_kernel import by_tiles, integer_kernel, store
from ilmari.kernels.plan import LinearShape
from ilmari.kernels.weights_ahead import weights_ahead

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc

ROWS = 4  # tokens in a register tile
BATCH = 256  # tokens whose sums for one block of channels are kept in the L2 cache


def linear_pairs(isa: Isa, shape: LinearShape) -> PrimFunc:
    """Y[m, n] (+)= scale[m] * channel_scale[n] * X[m, k] @ W.T

    X, correction and scale are the form `pairs`; W is [n/block, k/4, block*4] uint8 (see `packing`). Y is float32;
    `accumulate` adds to it: the residual.
    """
    lanes, block, traded = isa.lanes, shape.block, isa.traded
    k, accumulate, vectors = shape.k, shape.accumulate, block // lanes
    words, steps = 2 * lanes, lanes // 2
    ahead = weights_ahead(isa, block, ROWS, 2 * lanes)

    @T.inline
    def expand(nb, chunk, runs, W, panel, squares):
        """A chunk of a block's weights as int16: of each group of four the first and third, then the others."""
        acc = T.alloc_buffer((block,), "int32", scope="local", annotations={"disable_lower_builtin": True})
        for j in T.unroll(vectors):
            acc[T.ramp(j * lanes, 1, lanes)] = T.broadcast(T.int32(0), lanes)
        for run in T.serial(runs):
            for step in T.unroll(steps):
                for j in T.unroll(vectors):
                    group: T.let = run * steps + step
                    stored: T.let = T.reinterpret(
                        W[nb, chunk * (CHUNK // 4) + group, T.ramp(j * lanes * 4, 1, lanes * 4)],
                        dtype=f"uint16x{words}",
                    )
                    even: T.let = T.reinterpret(stored & T.broadcast(T.uint16(255), words), dtype=f"int16x{words}")
                    odd: T.let = T.reinterpret(stored >> T.broadcast(T.uint16(8), words), dtype=f"int16x{words}")
                    panel[group, j, 0, T.ramp(0, 1, words)] = even
                    panel[group, j, 1, T.ramp(0, 1, words)] = odd
                    if (step + j) % CLASSES < traded:
                        acc[T.ramp(j * lanes, 1, lanes)] = dot_words(isa, acc[T.ramp(j * lanes, 1, lanes)], even, odd)
        for j in T.unroll(vectors):
            squares[T.ramp(j * lanes, 1, lanes)] = acc[T.ramp(j * lanes, 1, lanes)]

    @T.inline
    def tile(rows, row, count, first, nb, chunk, runs, X, correction, W, panel, squares, sums):
        """sums[row + i] += X[first + row + i] times the chunk's weights, for `rows` rows i."""
        acc = T.alloc_buffer((rows * block,), "int32", scope="local", annotations={"disable_lower_builtin": True})
        for i in T.unroll(rows):
            for j in T.unroll(vectors):
                row_part: T.let = T.broadcast(correction[first + row + i, chunk * CLASSES + j % CLASSES], lanes)
                acc[T.ramp((i * vectors + j) * lanes, 1, lanes)] = row_part - squares[T.ramp(j * lanes, 1, lanes)]
        for run in T.serial(runs):
            ahead.next_rows(count, row, nb, (chunk + 1) * (CHUNK // 4), CHUNK // 4, run, W)
            for step in T.unroll(steps):
                for i in T.unroll(rows):
                    for j in T.unroll(vectors):
                        at: T.let = chunk * CHUNK + run * 2 * lanes + step * 2
                        a_even: T.let = every_lane(isa, X[first + row + i, T.ramp(at, 1, 2)], "int16")
                        a_odd: T.let = every_lane(isa, X[first + row + i, T.ramp(at + lanes, 1, 2)], "int16")
                        even: T.let = panel[run * steps + step, j, 0, T.ramp(0, 1, words)]
                        odd: T.let = panel[run * steps + step, j, 1, T.ramp(0, 1, words)]
                        total: T.let = acc[T.ramp((i * vectors + j) * lanes, 1, lanes)]
                        if (step + j) % CLASSES < traded:
                            acc[T.ramp((i * vectors + j) * lanes, 1, lanes)] = dot_words(
                                isa, total, a_even + odd, a_odd + even
                            )
                        else:
                            acc[T.ramp((i * vectors + j) * lanes, 1, lanes)] = dot_words(
                                isa, dot_words(isa, total, a_even, even), a_odd, odd
                            )
        for i in T.unroll(rows):
            for j in T.unroll(vectors):
                value: T.let = T.cast(acc[T.ramp((i * vectors + j) * lanes, 1, lanes)], f"float32x{lanes}")
                before: T.let = sums[row + i, T.ramp(j * lanes, 1, lanes)]
                sums[row + i, T.ramp(j * lanes, 1, lanes)] = T.Select(chunk == 0, value, before + value)

    each = by_tiles(ROWS, tile)

    @T.inline
    def finish(row, i, nb, sums, scale, channel_scale, Y):
        for j in T.serial(vectors):
            columns: T.let = nb * block + j * lanes
            factor: T.let = channel_scale[T.ramp(columns, 1, lanes)] * T.broadcast(scale[i, 0], lanes)
            value: T.let = sums[row, T.ramp(j * lanes, 1, lanes)] * factor
            store(lanes, accumulate, i, columns, value, Y)

    @T.inline
    def multiply(m, nb, X, correction, scale, W, channel_scale, Y):
        panel = T.alloc_buffer((CHUNK // 4, vectors, 2, words), "int16")
        squares = T.alloc_buffer((block,), "int32")
        sums = T.alloc_buffer((BATCH, block), "float32")
        for batch in T.serial((m + BATCH - 1) // BATCH):
            first: T.let = batch * BATCH
            rows: T.let = T.min(BATCH, m - first)
            for chunk in T.serial(chunks(k)):
                runs: T.let = T.min(CHUNK, k - chunk * CHUNK) // (2 * lanes)
                expand(nb, chunk, runs, W, panel, squares)
                each(rows, rows, first, nb, chunk, runs, X, correction, W, panel, squares, sums)
            for i in T.serial(rows):
                finish(i, first + i, nb, sums, scale, channel_scale, Y)

    return integer_kernel(PAIRS, shape, multiply)
