"""Linear layer with int8 weights and 8-bit activations: one byte dot product per multiply-add.

The products of a group of inputs are summed exactly in int32, scaled by the group's scale and added in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def linear_groups(isa: Isa, shape: LinearShape) -> PrimFunc:
    """Y[m, n] (+)= channel_scale[n] * sum over groups of scale[m, group] * X[m, group] @ W[n, group].T

    X, correction and scale are the form `groups`; W is [n/block, k/4, block*4] uint8 (see `packing`). Y is float32;
    `accumulate` adds to it: the residual.
    """
    lanes, block = isa.lanes, shape.block
    k, accumulate, vectors = shape.k, shape.accumulate, block // lanes
    bytes_, steps = lanes * 4, lanes // 2
    fetch = weights_ahead(isa, block, ROWS)

    @T.inline
    def tile(rows, first, nb, X, correction, scale, W, channel_scale, Y):
        acc = T.alloc_buffer((rows * block,), "int32", scope="local", annotations={"disable_lower_builtin": True})
        total = T.alloc_buffer((rows * block,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        claim(rows, block, first, nb, Y)
        for t in T.unroll(rows * vectors):
            total[T.ramp(t * lanes, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for group in T.serial(groups(k)):
            for i in T.unroll(rows):
                for j in T.unroll(vectors):
                    acc[T.ramp((i * vectors + j) * lanes, 1, lanes)] = T.broadcast(correction[first + i, group], lanes)
            for run in T.serial(T.min(GROUP, k - group * GROUP) // (2 * lanes)):
                fetch(X.shape[0], first, nb, k // 4, k // 4, group * (GROUP // (2 * lanes)) + run, W)
                for step in T.unroll(steps):
                    for i in T.unroll(rows):
                        for j in T.unroll(vectors):
                            acc[T.ramp((i * vectors + j) * lanes, 1, lanes)] = dot_bytes(
                                isa,
                                acc[T.ramp((i * vectors + j) * lanes, 1, lanes)],
                                W[
                                    nb,
                                    group * (GROUP // 4) + run * steps + step,
                                    T.ramp(j * bytes_, 1, bytes_),
                                ],
                                every_lane(
                                    isa,
                                    X[first + i, T.ramp(group * (GROUP // 2) + run * lanes + step * 2, 1, 2)],
                                    "int8",
                                ),
                            )
            for i in T.unroll(rows):
                for j in T.unroll(vectors):
                    total[T.ramp((i * vectors + j) * lanes, 1, lanes)] = fma(
                        isa,
                        T.cast(acc[T.ramp((i * vectors + j) * lanes, 1, lanes)], f"float32x{lanes}"),
                        T.broadcast(scale[first + i, group], lanes),
                        total[T.ramp((i * vectors + j) * lanes, 1, lanes)],
                    )
        for i in T.unroll(rows):
            for j in T.unroll(vectors):
                columns: T.let = nb * block + j * lanes
                value: T.let = (
                    total[T.ramp((i * vectors + j) * lanes, 1, lanes)] * channel_scale[T.ramp(columns, 1, lanes)]
                )
                store(lanes, accumulate, first + i, columns, value, Y)

    return integer_kernel(GROUPS, shape, by_tiles(ROWS, tile))


def linear_int8_reference(
    x: NDArray[np.int64], weight: NDArray[np.int8], scale: NDArray[np.float32], channel_scale: NDArray[np.float32]
) -> NDArray[np.float64]:
    """What `linear_groups` computes, from integers x [m, k], scales [m, groups] and the weight [n, k] as it was."""
    k = x.shape[1]
    wide = np.repeat(scale.astype(np.float64), GROUP, axis=1)[:, :k]
    result: NDArray[np.float64] = (x * wide) @ weight.astype(np.float64).T * channel_scale
    return result
