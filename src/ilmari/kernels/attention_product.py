"""Register tiles of prefill attention: some rows times two vectors of columns, in float32 or in 16-bit integers."""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from ilmari.kernels.byte_dot import dot_words, every_lane
from ilmari.kernels.isa import Isa, fma

PANEL = 32
"""Keys, or features of values, that are prepared at a time; they stay in the first-level cache for every row."""

VECTORS = 2
"""Vectors of keys or of features in a register tile."""


def float_product(isa: Isa, batch: int) -> Any:
    """Inline add(depth, row0, j0, A, B, acc): acc += A[row0:row0 + batch, :depth] @ B[:depth, j0:], all float32."""
    lanes = isa.lanes

    @T.inline
    def add(depth, row0, j0, A, B, acc):
        for k in T.serial(depth):
            for r in T.unroll(batch):
                for j in T.unroll(VECTORS):
                    at: T.let = (r * VECTORS + j) * lanes
                    acc[T.ramp(at, 1, lanes)] = fma(
                        isa,
                        B[k, T.ramp(j0 + j * lanes, 1, lanes)],
                        T.broadcast(A[row0 + r, k], lanes),
                        acc[T.ramp(at, 1, lanes)],
                    )

    return add


def word_product(isa: Isa, batch: int) -> Any:
    """Inline multiply(depth, row0, j0, A, B, acc): acc = A[row0:row0 + batch, :2 * depth] @ B[:depth, j0:].

    A is int16; B is int32, in each lane the two int16 numbers that the next two of a row of A meet.
    """
    lanes = isa.lanes

    @T.inline
    def multiply(depth, row0, j0, A, B, acc):
        for t in T.unroll(batch * VECTORS):
            acc[T.ramp(t * lanes, 1, lanes)] = T.broadcast(T.int32(0), lanes)
        for k in T.serial(depth):
            for r in T.unroll(batch):
                for j in T.unroll(VECTORS):
                    at: T.let = (r * VECTORS + j) * lanes
                    acc[T.ramp(at, 1, lanes)] = dot_words(
                        isa,
                        acc[T.ramp(at, 1, lanes)],
                        T.reinterpret(B[k, T.ramp(j0 + j * lanes, 1, lanes)], dtype=f"int16x{2 * lanes}"),
                        every_lane(isa, A[row0 + r, T.ramp(2 * k, 1, 2)], "int16"),
                    )

    return multiply
