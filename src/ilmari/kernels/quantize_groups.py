"""Activations as 8-bit integers with a scale for each group of inputs (`form.GROUP`), for byte dot products.

A weight is stored as w + `Isa.byte_offset`, so a group's correction is the sum of its integers times minus that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tvm.script import tirx as T

from ilmari.kernels.form import GROUP, groups
from ilmari.kernels.isa import Isa
from ilmari.kernels.numeric import lane_max, lane_sum, levels_per_unit, nearest, side_by_side

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS = 127


def store_group(isa: Isa, k: int) -> Any:
    """Inline store(i, group, numbers, r, start, Q, correction, scale): one group of row i of the form `groups`.

    Its inputs, of k in a row, are numbers[r, start:], float32.
    """
    lanes = isa.lanes

    @T.inline
    def store(i, group, numbers, r, start, Q, correction, scale):
        largest = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        sums = T.alloc_buffer((lanes,), "int32", scope="local", annotations={"disable_lower_builtin": True})
        width: T.let = T.min(GROUP, k - group * GROUP)
        largest[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        sums[T.ramp(0, 1, lanes)] = T.broadcast(T.int32(0), lanes)
        for j in T.serial(width // lanes):
            value: T.let = numbers[r, T.ramp(start + j * lanes, 1, lanes)]
            largest[T.ramp(0, 1, lanes)] = T.max(largest[T.ramp(0, 1, lanes)], T.max(value, -value))
        unit: T.let = lane_max(largest, lanes) / T.float32(LEVELS)
        factor: T.let = levels_per_unit(isa, unit)
        for run in T.serial(width // (2 * lanes)):
            at: T.let = start + run * 2 * lanes
            a: T.let = nearest(isa, numbers[r, T.ramp(at, 1, lanes)], factor)
            b: T.let = nearest(isa, numbers[r, T.ramp(at + lanes, 1, lanes)], factor)
            Q[i, T.ramp(group * (GROUP // 2) + run * lanes, 1, lanes)] = side_by_side(isa, a, b)
            sums[T.ramp(0, 1, lanes)] = sums[T.ramp(0, 1, lanes)] + a + b
        scale[i, group] = unit
        correction[i, group] = lane_sum(sums, range(lanes)) * -isa.byte_offset

    return store


def store_groups(isa: Isa, k: int) -> Any:
    """Inline: row [1, k], float32, becomes row i of the form `groups`."""
    store_one = store_group(isa, k)

    @T.inline
    def store(i, row, Q, correction, scale):
        for group in T.serial(groups(k)):
            store_one(i, group, row, 0, group * GROUP, Q, correction, scale)

    return store


def groups_reference(x: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The integers [m, k] and the scales [m, groups]."""
    starts = np.arange(0, x.shape[1], GROUP)
    scale = np.maximum.reduceat(np.abs(x), starts, axis=1).astype(np.float64) / LEVELS
    widths = np.diff([*starts, x.shape[1]])
    wide = np.repeat(np.where(scale > 0, scale, 1), widths, axis=1)
    return np.rint(x / wide).astype(np.int64), scale
