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
    n, k, accumulate, vectors = shape.n, shape.k, shape.accumulate, block // lanes
    bytes_, steps = lanes * 4, lanes // 2
    values, corrections, scales = (part.columns(k) for part in GROUPS.parts)

    @T.inline
    def tile(rows, first, nb, X, correction, scale, W, channel_scale, Y):
        acc = T.alloc_buffer((rows * block,), "int32", scope="local", annotations={"disable_lower_builtin": True})
        total = T.alloc_buffer((rows * block,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        for t in T.unroll(rows * vectors):
            total[T.ramp(t * lanes, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for group in T.serial(groups(k)):
            for i in T.unroll(rows):
                for j in T.unroll(vectors):
                    acc[T.ramp((i * vectors + j) * lanes, 1, lanes)] = T.broadcast(correction[first + i, group], lanes)
            for run in T.serial(T.min(GROUP, k - group * GROUP) // (2 * lanes)):
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
                if accumulate:
                    Y[first + i, T.ramp(columns, 1, lanes)] = Y[first + i, T.ramp(columns, 1, lanes)] + value
                else:
                    Y[first + i, T.ramp(columns, 1, lanes)] = value

    @T.prim_func
    def kernel(
        x: T.handle,
        c: T.handle,
        s: T.handle,
        W: T.Buffer((n // block, k // 4, block * 4), "uint8"),
        channel_scale: T.Buffer((n,), "float32"),
        y: T.handle,
    ):
        m = T.int32()
        X = T.match_buffer(x, (m, values), "uint16")
        correction = T.match_buffer(c, (m, corrections), "int32")
        scale = T.match_buffer(s, (m, scales), "float32")
        Y = T.match_buffer(y, (m, n), "float32")
        for nb in T.parallel(n // block):
            for mb in T.serial(m // ROWS):
                tile(ROWS, mb * ROWS, nb, X, correction, scale, W, channel_scale, Y)
            if m % ROWS == 3:
                tile(3, m - 3, nb, X, correction, scale, W, channel_scale, Y)
            if m % ROWS == 2:
                tile(2, m - 2, nb, X, correction, scale, W, channel_scale, Y)
            if m % ROWS == 1:
                tile(1, m - 1, nb, X, correction, scale, W, channel_scale, Y)

    return kernel


def linear_int8_reference(
    x: NDArray[np.int64], weight: NDArray[np.int8], scale: NDArray[np.float32], channel_scale: NDArray[np.float32]
) -> NDArray[np.float64]:
    """What `linear_groups` computes, from integers x [m, k], scales [m, groups] and the weight [n, k] as it was."""
    k = x.shape[1]
    wide = np.repeat(scale.astype(np.float64), GROUP, axis=1)[:, :k]
    result: NDArray[np.float64] = (x * wide) @ weight.astype(np.float64).T * channel_scale
    return result
