"""Integer dot products, one or two instructions each, as TIR expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm.script import tirx as T

from ilmari.kernels.isa import PMADDWD, Isa

if TYPE_CHECKING:
    from tvm.tirx import PrimExpr


def every_lane(isa: Isa, word: PrimExpr, dtype: str) -> PrimExpr:
    """The 32 bits of `word`, two 16-bit numbers, in each lane: a vector of `dtype`, int8 or int16."""
    wide = T.broadcast(T.reinterpret(word, dtype="int32"), isa.lanes)
    return T.reinterpret(wide, dtype=f"{dtype}x{isa.lanes * (4 if dtype == 'int8' else 2)}")


def as_words(isa: Isa, wide: PrimExpr) -> PrimExpr:
    """int32 lanes as the two int16 numbers in each."""
    return T.reinterpret(wide, dtype=f"int16x{2 * isa.lanes}")


def dot_bytes(isa: Isa, total: PrimExpr, weights: PrimExpr, activations: PrimExpr) -> PrimExpr:
    """total + the sums of `Isa.dot_step` products of bytes: int32 lanes, weights as they are stored and int8."""
    return _dot(isa, isa.byte_dot, total, weights, activations)


def dot_words(isa: Isa, total: PrimExpr, a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """total + the sums of two products of int16, modulo 2**32: int32 lanes, int16 by twos."""
    if isa.word_dot == PMADDWD:
        return total + _dot(isa, PMADDWD, a, b)
    return _dot(isa, isa.word_dot, total, a, b)


def _dot(isa: Isa, instruction: str | None, *operands: PrimExpr) -> PrimExpr:
    assert instruction is not None
    return T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id(instruction), *operands, dtype=f"int32x{isa.lanes}")
