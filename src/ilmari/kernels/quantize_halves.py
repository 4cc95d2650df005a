"""Activations as 16-bit integers in two signed bytes each, for two byte dot products per multiply-add.

    x = scale * (256 * high + low)

A weight is stored as w + `Isa.byte_offset`, so the correction of a chunk's sum is the sum of its numbers times minus
that.
"""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from ilmari.kernels.isa import Isa
from ilmari.kernels.numeric import lane_sum, side_by_side
from ilmari.kernels.quantize_int16 import store_int16


def store_halves(isa: Isa, k: int) -> Any:
    """Inline: row [1, k], float32, becomes row i of the form `halves`."""
    lanes = isa.lanes

    @T.inline
    def keep(i, at, a, b, Q):
        high_a: T.let = (a + T.broadcast(T.int32(128), lanes)) >> T.broadcast(T.int32(8), lanes)
        high_b: T.let = (b + T.broadcast(T.int32(128), lanes)) >> T.broadcast(T.int32(8), lanes)
        Q[i, T.ramp(at, 1, lanes)] = side_by_side(isa, high_a, high_b)
        Q[i, T.ramp(at + lanes, 1, lanes)] = side_by_side(isa, a, b)

    @T.inline
    def correct(i, chunk, sums, products, correction):  # noqa: ARG001
        correction[i, chunk] = lane_sum(sums, range(lanes)) * -isa.byte_offset

    return store_int16(isa, k, keep, correct)
