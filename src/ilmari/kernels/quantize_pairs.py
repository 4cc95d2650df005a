"""Activations as whole 16-bit integers, for `linear_words`, or with the corrections that `linear_pairs` explains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm.script import tirx as T

from ilmari.kernels.form import CLASSES
from ilmari.kernels.isa import Isa
from ilmari.kernels.numeric import lane_sum
from ilmari.kernels.quantize_int16 import store_int16

if TYPE_CHECKING:
    from tvm.tirx import Buffer, PrimExpr


def store_words(isa: Isa, k: int) -> Any:
    """Inline: row [1, k], float32, becomes row i of the form `words`."""
    lanes = isa.lanes

    @T.inline
    def correct(i, chunk, sums, products, correction):  # noqa: ARG001
        correction[i, chunk] = lane_sum(sums, range(lanes)) * -isa.byte_offset

    return store_int16(isa, k, _keep(lanes), correct)


def store_pairs(isa: Isa, k: int) -> Any:
    """Inline: row [1, k], float32, becomes row i of the form `pairs`."""
    lanes = isa.lanes

    @T.inline
    def correct(i, chunk, sums, products, correction):
        offset: T.let = lane_sum(sums, range(lanes)) * -isa.byte_offset
        correction[i, chunk * CLASSES] = offset - traded_sum(isa, products, 0)
        correction[i, chunk * CLASSES + 1] = offset - traded_sum(isa, products, 1)
        correction[i, chunk * CLASSES + 2] = offset - traded_sum(isa, products, 2)
        correction[i, chunk * CLASSES + 3] = offset - traded_sum(isa, products, 3)

    return store_int16(isa, k, _keep(lanes), correct)


def _keep(lanes: int) -> Any:
    @T.inline
    def keep(i, at, a, b, Q):
        Q[i, T.ramp(at, 1, lanes)] = T.cast(a, f"int16x{lanes}")
        Q[i, T.ramp(at + lanes, 1, lanes)] = T.cast(b, f"int16x{lanes}")

    return keep


def traded_sum(isa: Isa, products: Buffer, column: int) -> PrimExpr:
    """The sum of the products whose class is traded in the vectors of channels that this column is for."""
    # Two neighbouring lanes belong to one group of four inputs.
    lanes = [lane for lane in range(isa.lanes) if (lane // 2 + column) % CLASSES < isa.traded]
    return lane_sum(products, lanes) if lanes else T.int32(0)
