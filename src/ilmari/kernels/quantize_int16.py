"""Activations as 16-bit integers with a scale for each row, in whichever order a form has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tvm.script import tirx as T

from ilmari.kernels.form import CHUNK, chunks
from ilmari.kernels.isa import Isa
from ilmari.kernels.numeric import lane_max, levels_per_unit, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS = 32512
"""What the largest magnitude of a row becomes: the sum of it and a stored weight, up to 255, is still an int16."""


def store_int16(isa: Isa, k: int, keep: Any, correct: Any) -> Any:
    """Inline: row [1, k], float32, becomes row i of a form.

    Inline keep(i, at, a, b, Q): the integers, int32, of the run of inputs from `at` on, two vectors, are stored in Q.
    Inline correct(i, chunk, sums, products, correction): the corrections of a chunk are computed of its integers' sums
    and of the sums of their products a * b, lane by lane.
    """
    lanes = isa.lanes

    @T.inline
    def measure(i, row, scale):
        largest = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        largest[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for j in T.serial(k // lanes):
            value: T.let = row[0, T.ramp(j * lanes, 1, lanes)]
            largest[T.ramp(0, 1, lanes)] = T.max(largest[T.ramp(0, 1, lanes)], T.max(value, -value))
        scale[i, 0] = lane_max(largest, lanes) / T.float32(LEVELS)

    @T.inline
    def store(i, row, Q, correction, scale):
        sums = T.alloc_buffer((lanes,), "int32", scope="local", annotations={"disable_lower_builtin": True})
        products = T.alloc_buffer((lanes,), "int32", scope="local", annotations={"disable_lower_builtin": True})
        measure(i, row, scale)
        factor: T.let = levels_per_unit(isa, scale[i, 0])
        for chunk in T.serial(chunks(k)):
            sums[T.ramp(0, 1, lanes)] = T.broadcast(T.int32(0), lanes)
            products[T.ramp(0, 1, lanes)] = T.broadcast(T.int32(0), lanes)
            for run in T.serial(T.min(CHUNK, k - chunk * CHUNK) // (2 * lanes)):
                at: T.let = chunk * CHUNK + run * 2 * lanes
                a: T.let = nearest(isa, row[0, T.ramp(at, 1, lanes)], factor)
                b: T.let = nearest(isa, row[0, T.ramp(at + lanes, 1, lanes)], factor)
                keep(i, at, a, b, Q)
                sums[T.ramp(0, 1, lanes)] = sums[T.ramp(0, 1, lanes)] + a + b
                products[T.ramp(0, 1, lanes)] = products[T.ramp(0, 1, lanes)] + a * b
            correct(i, chunk, sums, products, correction)

    return store


def int16_reference(x: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The integers [m, k] and the scales [m] of every 16-bit form."""
    scale = np.abs(x).max(axis=1).astype(np.float64) / LEVELS
    return np.rint(x / np.where(scale > 0, scale, 1)[:, None]).astype(np.int64), scale
