"""Register tiles of prefill attention: some rows times two vectors of columns, in float32 or in 16-bit integers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm.script import tirx as T

from ilmari.kernels.byte_dot import dot_words, every_lane
from ilmari.kernels.isa import Isa, fma

if TYPE_CHECKING:
    from tvm.tirx import Buffer, PrimExpr

PANEL = 32
"""Keys, or features of values, that are prepared at a time; they stay in the first-level cache for every row."""

VECTORS = 2
"""Vectors of keys or of features in a register tile."""


def float_product(isa: Isa, batch: int) -> Any:
    """Inline add(depth, row0, j0, A, B, acc): acc += A[row0:row0 + batch, :depth] @ B[:depth, j0:], all float32."""

    def with_next(total: PrimExpr, A: Buffer, row: PrimExpr, k: PrimExpr, b: PrimExpr) -> PrimExpr:
        return fma(isa, b, T.broadcast(A[row, k], isa.lanes), total)

    return _each_product(isa, batch, with_next)


def word_product(isa: Isa, batch: int) -> Any:
    """Inline multiply(depth, row0, j0, A, B, acc): acc = A[row0:row0 + batch, :2 * depth] @ B[:depth, j0:].

    A is int16; B is int32, in each lane the two int16 numbers that the next two of a row of A meet.
    """
    lanes = isa.lanes

    def with_next(total: PrimExpr, A: Buffer, row: PrimExpr, k: PrimExpr, b: PrimExpr) -> PrimExpr:
        words = T.reinterpret(b, dtype=f"int16x{2 * lanes}")
        return dot_words(isa, total, words, every_lane(isa, A[row, T.ramp(2 * k, 1, 2)], "int16"))

    add = _each_product(isa, batch, with_next)

    @T.inline
    def multiply(depth, row0, j0, A, B, acc):
        for t in T.unroll(batch * VECTORS):
            acc[T.ramp(t * lanes, 1, lanes)] = T.broadcast(T.int32(0), lanes)
        add(depth, row0, j0, A, B, acc)

    return multiply


def _each_product(isa: Isa, batch: int, with_next: Any) -> Any:
    """Inline add(depth, row0, j0, A, B, acc): with_next(total, A, row, k, b) in place of each total, for every k."""
    lanes = isa.lanes

    @T.inline
    def add(depth, row0, j0, A, B, acc):
        for k in T.serial(depth):
            for r in T.unroll(batch):
                for j in T.unroll(VECTORS):
                    at: T.let = (r * VECTORS + j) * lanes
                    acc[T.ramp(at, 1, lanes)] = with_next(
                        acc[T.ramp(at, 1, lanes)], A, row0 + r, k, B[k, T.ramp(j0 + j * lanes, 1, lanes)]
                    )

    return add
