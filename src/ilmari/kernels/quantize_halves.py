"""Activations as 16-bit integers in two signed bytes each, for two byte dot products per multiply-add.

    x = scale * (256 * high + low)

A weight is stored as w + 128, so the correction of a chunk's sum is -128 times the sum of its numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tvm.script import tirx as T

from ilmari.kernels.form import CHUNK, chunks
from ilmari.kernels.isa import Isa
from ilmari.kernels.numeric import lane_max, lane_sum, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tvm.tirx import PrimExpr

LEVELS = 32512
"""What the largest magnitude of a row becomes: the sum of it and a stored weight, up to 255, is still an int16."""


def side_by_side(isa: Isa, a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """The low bytes of int32 a and b as 16-bit words, b's above a's."""
    low = T.broadcast(T.int32(255), isa.lanes)
    return T.cast((a & low) | ((b & low) << T.broadcast(T.int32(8), isa.lanes)), f"uint16x{isa.lanes}")


def row_scale(isa: Isa, k: int) -> Any:
    """Inline: scale[i, 0] = max |row[0]| / LEVELS."""
    lanes = isa.lanes

    @T.inline
    def measure(i, row, scale):
        largest = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        largest[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for j in T.serial(k // lanes):
            value: T.let = row[0, T.ramp(j * lanes, 1, lanes)]
            largest[T.ramp(0, 1, lanes)] = T.max(largest[T.ramp(0, 1, lanes)], T.max(value, -value))
        scale[i, 0] = lane_max(largest, lanes) / T.float32(LEVELS)

    return measure


def store_halves(isa: Isa, k: int) -> Any:
    """Inline: row [1, k], float32, becomes row i of the form `halves`."""
    lanes, measure = isa.lanes, row_scale(isa, k)

    @T.inline
    def store(i, row, Q, correction, scale):
        sums = T.alloc_buffer((lanes,), "int32", scope="local", annotations={"disable_lower_builtin": True})
        measure(i, row, scale)
        factor: T.let = T.broadcast(T.float32(1) / T.max(scale[i, 0], T.float32(SMALLEST_SCALE)), lanes)
        for chunk in T.serial(chunks(k)):
            sums[T.ramp(0, 1, lanes)] = T.broadcast(T.int32(0), lanes)
            for run in T.serial(T.min(CHUNK, k - chunk * CHUNK) // (2 * lanes)):
                at: T.let = chunk * CHUNK + run * 2 * lanes
                a: T.let = nearest(isa, row[0, T.ramp(at, 1, lanes)], factor)
                b: T.let = nearest(isa, row[0, T.ramp(at + lanes, 1, lanes)], factor)
                high_a: T.let = (a + T.broadcast(T.int32(128), lanes)) >> T.broadcast(T.int32(8), lanes)
                high_b: T.let = (b + T.broadcast(T.int32(128), lanes)) >> T.broadcast(T.int32(8), lanes)
                Q[i, T.ramp(at, 1, lanes)] = side_by_side(isa, high_a, high_b)
                Q[i, T.ramp(at + lanes, 1, lanes)] = side_by_side(isa, a, b)
                sums[T.ramp(0, 1, lanes)] = sums[T.ramp(0, 1, lanes)] + a + b
            correction[i, chunk] = lane_sum(sums, range(lanes)) * -128

    return store


SMALLEST_SCALE = 1e-37
"""A row whose scale is below this, zeros above all, becomes zeros."""


def int16_reference(x: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The integers [m, k] and the scales [m] of `halves` and `pairs`."""
    scale = np.abs(x).max(axis=1).astype(np.float64) / LEVELS
    return np.rint(x / np.where(scale > 0, scale, 1)[:, None]).astype(np.int64), scale
