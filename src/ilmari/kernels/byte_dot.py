"""Integer dot products: one instruction each, as TIR expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm.script import tirx as T

if TYPE_CHECKING:
    from tvm.tirx import PrimExpr


def every_lane(word: PrimExpr, dtype: str, lanes: int) -> PrimExpr:
    """The 32 bits of `word`, two 16-bit numbers, in each of `lanes` lanes, as a vector of `dtype`."""
    return T.reinterpret(T.broadcast(T.reinterpret(word, dtype="int32"), lanes), dtype=dtype)


def dot_bytes(total: PrimExpr, weights: PrimExpr, activations: PrimExpr) -> PrimExpr:
    """total[i] + sum of four products of unsigned and signed bytes: vpdpbusd. int32x16, uint8x64, int8x64."""
    return T.call_llvm_pure_intrin(
        T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpdpbusd.512"), total, weights, activations, dtype="int32x16"
    )


def dot_words(total: PrimExpr, a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """total[i] + sum of two products of int16, modulo 2**32: vpdpwssd. int32x16, int16x32, int16x32."""
    return T.call_llvm_pure_intrin(
        T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpdpwssd.512"), total, a, b, dtype="int32x16"
    )
