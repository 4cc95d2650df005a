"""Activations as whole 16-bit integers, with the corrections that `linear_pairs` explains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm.script import tirx as T

from ilmari.kernels.form import CHUNK, CLASSES, chunks
from ilmari.kernels.isa import Isa
from ilmari.kernels.numeric import lane_sum, nearest
from ilmari.kernels.quantize_halves import SMALLEST_SCALE, row_scale

if TYPE_CHECKING:
    from tvm.tirx import Buffer, PrimExpr


def store_pairs(isa: Isa, k: int) -> Any:
    """Inline: row [1, k], float32, becomes row i of the form `pairs`."""
    lanes, measure = isa.lanes, row_scale(isa, k)

    @T.inline
    def store(i, row, Q, correction, scale):
        sums = T.alloc_buffer((lanes,), "int32", scope="local", annotations={"disable_lower_builtin": True})
        products = T.alloc_buffer((lanes,), "int32", scope="local", annotations={"disable_lower_builtin": True})
        measure(i, row, scale)
        factor: T.let = T.broadcast(T.float32(1) / T.max(scale[i, 0], T.float32(SMALLEST_SCALE)), lanes)
        for chunk in T.serial(chunks(k)):
            sums[T.ramp(0, 1, lanes)] = T.broadcast(T.int32(0), lanes)
            products[T.ramp(0, 1, lanes)] = T.broadcast(T.int32(0), lanes)
            for run in T.serial(T.min(CHUNK, k - chunk * CHUNK) // (2 * lanes)):
                at: T.let = chunk * CHUNK + run * 2 * lanes
                a: T.let = nearest(isa, row[0, T.ramp(at, 1, lanes)], factor)
                b: T.let = nearest(isa, row[0, T.ramp(at + lanes, 1, lanes)], factor)
                Q[i, T.ramp(at, 1, lanes)] = T.cast(a, f"int16x{lanes}")
                Q[i, T.ramp(at + lanes, 1, lanes)] = T.cast(b, f"int16x{lanes}")
                sums[T.ramp(0, 1, lanes)] = sums[T.ramp(0, 1, lanes)] + a + b
                products[T.ramp(0, 1, lanes)] = products[T.ramp(0, 1, lanes)] + a * b
            offset: T.let = lane_sum(sums, range(lanes)) * -128
            correction[i, chunk * CLASSES] = offset - traded_sum(isa, products, 0)
            correction[i, chunk * CLASSES + 1] = offset - traded_sum(isa, products, 1)
            correction[i, chunk * CLASSES + 2] = offset - traded_sum(isa, products, 2)
            correction[i, chunk * CLASSES + 3] = offset - traded_sum(isa, products, 3)

    return store


def traded_sum(isa: Isa, products: Buffer, column: int) -> PrimExpr:
    """The sum of the products whose class is traded in the vectors of channels that this column is for."""
    # Two neighbouring lanes belong to one group of four inputs.
    lanes = [lane for lane in range(isa.lanes) if (lane // 2 + column) % CLASSES < isa.traded]
    return lane_sum(products, lanes) if lanes else T.int32(0)
