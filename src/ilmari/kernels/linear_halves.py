"""Linear layer with int8 weights and 16-bit activations for few rows: two byte dot products per multiply-add.

Each byte of the weights is read once and used as it is, so a step of one token runs at the memory's speed. A chunk's
sum, 256 times that of the high bytes and that of the low ones, is exact modulo 2**32 and fits into int32. Chunks are
added in float32, all as `linear_pairs` does it: the two give the same bits, so nothing depends on a step's rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tvm.script import tirx as T

from ilmari.kernels.as_written import not_copied, steps_at_once, with_loops_as_written
from ilmari.kernels.byte_dot import dot_bytes
from ilmari.kernels.dot_tile import DotTile
from ilmari.kernels.form import CHUNK, HALVES, chunks
from ilmari.kernels.isa import Isa
from ilmari.kernels.linear_kernel import by_tiles, integer_kernel, store
from ilmari.kernels.plan import LinearShape
from ilmari.kernels.prefetch import rows_ahead
from ilmari.kernels.weights_ahead import weights_ahead

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tvm.tirx import PrimFunc

ROWS = 3  # tokens in a register tile: two accumulators each


def linear_halves(isa: Isa, shape: LinearShape) -> PrimFunc:
    """Y[m, n] (+)= scale[m] * channel_scale[n] * (256 * X[m, high] + X[m, low]) @ W.T

    X, correction and scale are the form `halves`; W is [n/block, k/k_step, block*k_step] uint8 (see `packing`). Y is
    float32; `accumulate` adds to it: the residual.
    """
    lanes, block, k_step = isa.lanes, shape.block, shape.k_step
    k, accumulate, vectors = shape.k, shape.accumulate, block // lanes
    dots, bytes_ = DotTile(isa, block), lanes * 4
    height, words = isa.dot_rows, isa.dot_rows * k_step // 2
    # A token's high and low bytes are two rows of the tile. In X those of a run follow each other: where the two rows
    # are a band, they are one operand, because a step is a whole run.
    assert height == 1 or k_step == shape.run
    steps_of = {rows: steps_at_once(dots, shape, 2 * rows) for rows in range(1, ROWS + 1)}
    ahead_of = {rows: weights_ahead(isa, block, ROWS, steps * k_step) for rows, steps in steps_of.items()}

    @T.inline
    def tile(rows, first, nb, X, correction, scale, W, channel_scale, Y):
        steps, ahead = T.meta_var(steps_of[rows]), T.meta_var(ahead_of[rows])
        inputs = T.meta_var(steps * k_step)
        parts = T.meta_var(shape.run // inputs)
        acc = T.alloc_buffer((rows * 2 * block,), "int32", scope="local", annotations={"disable_lower_builtin": True})
        sums = T.alloc_buffer((rows * block,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        rows_ahead(rows, block, first, nb * block, Y, write=True)
        for chunk in T.serial(chunks(k)):
            for i in T.unroll(rows):
                for j in T.unroll(vectors):
                    acc[dots.of_row(2 * i, j)] = T.broadcast(T.int32(0), lanes)
                    acc[dots.of_row(2 * i + 1, j)] = T.broadcast(correction[first + i, chunk], lanes)
            for turn in T.serial(T.min(CHUNK, k - chunk * CHUNK) // inputs):
                T.evaluate(not_copied(isa))
                ahead.next_rows(X.shape[0], first, nb, k // k_step, k // k_step, chunk * (CHUNK // inputs) + turn, W)
                if rows > 1:  # with one, the CPU looks ahead of what it multiplies far enough
                    ahead.own_rows(X.shape[0], first, nb, chunk * (CHUNK // k_step) + turn * steps, W)
                for step in T.unroll(steps):
                    for part in T.unroll(height):  # of the block: all of its weights would take too many registers
                        for i in T.unroll(dots.bands(rows * 2)):
                            for j in T.unroll(vectors):
                                run: T.let = chunk * CHUNK + turn // parts * shape.run + i * height % 2 * lanes
                                column: T.let = run + (turn % parts * steps + step) * k_step // 2
                                at: T.let = chunk * (CHUNK // k_step) + turn * steps + step
                                t: T.let = part * vectors + j
                                acc[T.ramp((i * dots.vectors + t) * lanes, 1, lanes)] = dot_bytes(
                                    isa,
                                    acc[T.ramp((i * dots.vectors + t) * lanes, 1, lanes)],
                                    W[nb, at, T.ramp(t * bytes_, 1, bytes_)],
                                    dots.operand(X[first + i * height // 2, T.ramp(column, 1, words)]),
                                )
            for i in T.unroll(rows):
                for j in T.unroll(vectors):
                    high: T.let = acc[dots.of_row(2 * i, j)]
                    low: T.let = acc[dots.of_row(2 * i + 1, j)]
                    total: T.let = T.cast((high << T.broadcast(T.int32(8), lanes)) + low, f"float32x{lanes}")
                    before: T.let = sums[T.ramp((i * vectors + j) * lanes, 1, lanes)]
                    sums[T.ramp((i * vectors + j) * lanes, 1, lanes)] = T.Select(chunk == 0, total, before + total)
        for i in T.unroll(rows):
            for j in T.unroll(vectors):
                columns: T.let = nb * block + j * lanes
                factor: T.let = channel_scale[T.ramp(columns, 1, lanes)] * T.broadcast(scale[first + i, 0], lanes)
                value: T.let = sums[T.ramp((i * vectors + j) * lanes, 1, lanes)] * factor
                store(lanes, accumulate, first + i, columns, value, Y)

    return with_loops_as_written(isa, integer_kernel(HALVES, shape, by_tiles(ROWS, tile)))


def linear_int16_reference(
    x: NDArray[np.int64], weight: NDArray[np.int8], scale: NDArray[np.float32], channel_scale: NDArray[np.float32]
) -> NDArray[np.float64]:
    """What `linear_halves` and `linear_pairs` compute, from integers x [m, k] and the weight [n, k] as it was."""
    factor = np.outer(scale.astype(np.float64), channel_scale.astype(np.float64))
    return (x @ weight.astype(np.int64).T) * factor
