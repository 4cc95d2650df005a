"""Linear layer with int8 weights and 8-bit activations: one byte dot product per multiply-add.

The products of a group of inputs are summed exactly in int32, scaled by the group's scale and added in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tvm.script import tirx as T

from ilmari.kernels.byte_dot import dot_bytes, every_lane
from ilmari.kernels.form import GROUP, GROUPS, groups
from ilmari.kernels.isa import Isa, fma
from ilmari.kernels.linear_kernel import by_tiles, claim, integer_kernel, store, weights_ahead
from ilmari.kernels.plan import LinearShape

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tvm.tirx import PrimFunc

ROWS = 4  # tokens in a register tile
BATCH = 64  # tokens whose sums for one block of channels stay in cache
PANEL = 2 * GROUP  # inputs whose weights, of one block, stay in the first-level cache while a batch is multiplied


def linear_groups(isa: Isa, shape: LinearShape) -> PrimFunc:
    """Y[m, n] (+)= channel_scale[n] * sum over groups of scale[m, group] * X[m, group] @ W[n, group].T

    X, correction and scale are the form `groups`; W is [n/block, k/4, block*4] uint8 (see `packing`). Y is float32;
    `accumulate` adds to it: the residual.
    """
    lanes, block = isa.lanes, shape.block
    sum_groups = group_sums(isa, shape)

    @T.inline
    def multiply(m, nb, X, correction, scale, W, channel_scale, Y):
        sums = T.alloc_buffer((BATCH, block), "float32")
        for batch in T.serial((m + BATCH - 1) // BATCH):
            first: T.let = batch * BATCH
            count: T.let = T.min(BATCH, m - first)
            for i in T.serial(count):
                claim(1, block, first + i, nb, Y)
            sum_groups(first, count, nb, 0, X, correction, scale, W, sums)
            for i in T.serial(count):
                for j in T.unroll(block // lanes):
                    columns: T.let = nb * block + j * lanes
                    value: T.let = sums[i, T.ramp(j * lanes, 1, lanes)] * channel_scale[T.ramp(columns, 1, lanes)]
                    store(lanes, shape.accumulate, first + i, columns, value, Y)

    return integer_kernel(GROUPS, shape, multiply)


def group_sums(isa: Isa, shape: LinearShape) -> Any:
    """Inline each(first, count, nb, at, X, correction, scale, W, sums): products with block nb of the channels.

    sums[i, at + c] is that of row first + i, for `count` rows i, and channel c of the block, before its scale. Weights
    pass through the first-level cache once for all these rows, and come from memory as fast as they are used.
    """
    lanes, block, k = isa.lanes, shape.block, shape.k
    vectors, bytes_, steps, group_runs = block // lanes, lanes * 4, lanes // 2, GROUP // (2 * lanes)
    panel_groups, panel_rows = PANEL // GROUP, PANEL // 4
    fetch = weights_ahead(isa, block, ROWS)

    @T.inline
    def tile(rows, row, panel, first, nb, at, X, correction, scale, W, sums):
        acc = T.alloc_buffer((rows * block,), "int32", scope="local", annotations={"disable_lower_builtin": True})
        total = T.alloc_buffer((rows * block,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        for i in T.unroll(rows):
            for j in T.unroll(vectors):
                total[T.ramp((i * vectors + j) * lanes, 1, lanes)] = sums[row + i, T.ramp(at + j * lanes, 1, lanes)]
        for g in T.serial(T.min(panel_groups, groups(k) - panel * panel_groups)):
            group: T.let = panel * panel_groups + g
            for i in T.unroll(rows):
                for j in T.unroll(vectors):
                    acc[T.ramp((i * vectors + j) * lanes, 1, lanes)] = T.broadcast(
                        correction[first + row + i, group], lanes
                    )
            for run in T.serial(T.min(group_runs, (k - group * GROUP) // (2 * lanes))):
                start: T.let = k // 4 + panel * panel_rows
                fetch(X.shape[0], first + row, nb, start, panel_rows, g * group_runs + run, W)
                for step in T.unroll(steps):
                    for i in T.unroll(rows):
                        for j in T.unroll(vectors):
                            acc[T.ramp((i * vectors + j) * lanes, 1, lanes)] = dot_bytes(
                                isa,
                                acc[T.ramp((i * vectors + j) * lanes, 1, lanes)],
                                W[nb, group * (GROUP // 4) + run * steps + step, T.ramp(j * bytes_, 1, bytes_)],
                                every_lane(
                                    isa,
                                    X[first + row + i, T.ramp(group * (GROUP // 2) + run * lanes + step * 2, 1, 2)],
                                    "int8",
                                ),
                            )
            for i in T.unroll(rows):
                for j in T.unroll(vectors):
                    total[T.ramp((i * vectors + j) * lanes, 1, lanes)] = fma(
                        isa,
                        T.cast(acc[T.ramp((i * vectors + j) * lanes, 1, lanes)], f"float32x{lanes}"),
                        T.broadcast(scale[first + row + i, group], lanes),
                        total[T.ramp((i * vectors + j) * lanes, 1, lanes)],
                    )
        for i in T.unroll(rows):
            for j in T.unroll(vectors):
                sums[row + i, T.ramp(at + j * lanes, 1, lanes)] = total[T.ramp((i * vectors + j) * lanes, 1, lanes)]

    tiles = by_tiles(ROWS, tile)

    @T.inline
    def each(first, count, nb, at, X, correction, scale, W, sums):
        for i in T.serial(count):
            for j in T.unroll(vectors):
                sums[i, T.ramp(at + j * lanes, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for panel in T.serial((groups(k) + panel_groups - 1) // panel_groups):
            tiles(count, panel, first, nb, at, X, correction, scale, W, sums)

    return each


def linear_int8_reference(
    x: NDArray[np.int64], weight: NDArray[np.int8], scale: NDArray[np.float32], channel_scale: NDArray[np.float32]
) -> NDArray[np.float64]:
    """What `linear_groups` computes, from integers x [m, k], scales [m, groups] and the weight [n, k] as it was."""
    k = x.shape[1]
    wide = np.repeat(scale.astype(np.float64), GROUP, axis=1)[:, :k]
    result: NDArray[np.float64] = (x * wide) @ weight.astype(np.float64).T * channel_scale
    return result
