"""Linear layer with int8 weights and 8-bit activations: one byte dot product per multiply-add.

The products of a group of inputs are summed exactly in int32, scaled by the group's scale and added in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tvm.script import tirx as T

from ilmari.kernels.as_written import not_copied, steps_at_once, with_loops_as_written
from ilmari.kernels.byte_dot import dot_bytes
from ilmari.kernels.dot_tile import DotTile
from ilmari.kernels.form import GROUP, GROUPS, groups
from ilmari.kernels.isa import Isa, fma
from ilmari.kernels.linear_kernel import by_tiles, integer_kernel, store
from ilmari.kernels.plan import LinearShape
from ilmari.kernels.prefetch import rows_ahead
from ilmari.kernels.weights_ahead import weights_ahead

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tvm.tirx import PrimFunc

ROWS = 4  # tokens in a register tile
PANEL = 2048  # inputs: a block's weights for so many stay in the second-level cache while the next come from memory


def linear_groups(isa: Isa, shape: LinearShape) -> PrimFunc:
    """Y[m, n] (+)= channel_scale[n] * sum over groups of scale[m, group] * X[m, group] @ W[n, group].T

    X, correction and scale are the form `groups`; W is [n/block, k/k_step, block*k_step] uint8 (see `packing`). Y is
    float32; `accumulate` adds to it: the residual.
    """
    product = block_product(isa, shape)

    @T.inline
    def multiply(m, nb, X, correction, scale, W, channel_scale, Y):
        product(0, m, nb, nb + 1, 0, nb * shape.block, X, correction, scale, W, channel_scale, Y)

    return with_loops_as_written(isa, integer_kernel(GROUPS, shape, multiply))


def block_product(isa: Isa, shape: LinearShape) -> Any:
    """Inline each(first, count, nb, following, row0, column0, X, correction, scale, W, channel_scale, Y).

    What `linear_groups` computes for `count` rows from `first` on and block nb of the channels, at Y[row0, column0].
    The weights of block `following` will be wanted next.
    """
    lanes, block, k, k_step = isa.lanes, shape.block, shape.k, shape.k_step
    dots, bytes_ = DotTile(isa, block), lanes * 4
    panels, panel_groups, panel_rows = -(-k // PANEL), PANEL // GROUP, min(PANEL, k) // k_step
    vectors = dots.vectors
    ahead = weights_ahead(isa, block, ROWS, steps_at_once(dots, shape, ROWS) * k_step)

    @T.inline
    def tile(rows, row, panel, add, first, nb, following, row0, column0, X, correction, scale, W, channel_scale, Y):
        bands = T.meta_var(dots.bands(rows))
        size = T.meta_var(bands * vectors * lanes)
        steps = T.meta_var(steps_at_once(dots, shape, rows))
        inputs = T.meta_var(steps * k_step)
        turns = T.meta_var(GROUP // inputs)
        acc = T.alloc_buffer((size,), "int32", scope="local", annotations={"disable_lower_builtin": True})
        total = T.alloc_buffer((size,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        rows_ahead(rows, block, row0 + row, column0, Y, write=True)
        for t in T.unroll(bands * vectors):
            total[T.ramp(t * lanes, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        last: T.let = panel == panels - 1
        for g in T.serial(T.min(panel_groups, groups(k) - panel * panel_groups)):
            group: T.let = panel * panel_groups + g
            for i in T.unroll(bands):
                for j in T.unroll(vectors):
                    acc[T.ramp((i * vectors + j) * lanes, 1, lanes)] = dots.in_lanes(
                        dots.of_band(correction, first + row, rows, i, group)
                    )
            for turn in T.serial(T.min(turns, (k - group * GROUP) // inputs)):
                T.evaluate(not_copied(isa))
                if rows == ROWS:  # other tiles ask for nothing: loads would be kept in memory across the conditions
                    ahead.next_rows(
                        X.shape[0],
                        first + row,
                        T.Select(last, following, nb),
                        T.Select(last, 0, (panel + 1) * panel_rows),
                        panel_rows,
                        g * turns + turn,
                        W,
                    )
                    ahead.own_rows(X.shape[0], first + row, nb, (group * turns + turn) * steps, W)
                for step in T.unroll(steps):
                    for i in T.unroll(bands):
                        for j in T.unroll(vectors):
                            at: T.let = group * (GROUP // 2) + (turn * steps + step) * k_step // 2
                            acc[T.ramp((i * vectors + j) * lanes, 1, lanes)] = dot_bytes(
                                isa,
                                acc[T.ramp((i * vectors + j) * lanes, 1, lanes)],
                                W[nb, group * (GROUP // k_step) + turn * steps + step, T.ramp(j * bytes_, 1, bytes_)],
                                dots.operand(dots.of_band(X, first + row, rows, i, at, k_step // 2)),
                            )
            for i in T.unroll(bands):
                for j in T.unroll(vectors):
                    total[T.ramp((i * vectors + j) * lanes, 1, lanes)] = fma(
                        isa,
                        T.cast(acc[T.ramp((i * vectors + j) * lanes, 1, lanes)], f"float32x{lanes}"),
                        dots.in_lanes(dots.of_band(scale, first + row, rows, i, group)),
                        total[T.ramp((i * vectors + j) * lanes, 1, lanes)],
                    )
        for i in T.unroll(rows):
            for j in T.unroll(block // lanes):
                value: T.let = total[dots.of_row(i, j)] * channel_scale[T.ramp(nb * block + j * lanes, 1, lanes)]
                store(lanes, add, row0 + row + i, column0 + j * lanes, value, Y)

    tiles = by_tiles(ROWS, tile)

    @T.inline
    def each(first, count, *operands):
        tiles(count, 0, shape.accumulate, first, *operands)
        if panels > 1:
            for panel in T.serial(panels - 1):
                tiles(count, panel + 1, True, first, *operands)

    return each


def linear_int8_reference(
    x: NDArray[np.int64], weight: NDArray[np.int8], scale: NDArray[np.float32], channel_scale: NDArray[np.float32]
) -> NDArray[np.float64]:
    """What `linear_groups` computes, from integers x [m, k], scales [m, groups] and the weight [n, k] as it was."""
    k = x.shape[1]
    wide = np.repeat(scale.astype(np.float64), GROUP, axis=1)[:, :k]
    result: NDArray[np.float64] = (x * wide) @ weight.astype(np.float64).T * channel_scale
    return result
