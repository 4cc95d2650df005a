"""Instruction sets: what a kernel generator has to know about the CPU it writes for.

TVM is imported inside the functions that build expressions, because the serve wing reads the table without a compiler.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm.tirx import PrimExpr


@dataclass(frozen=True)
class Isa:
    """One way to write the kernels.

    lanes: float32 numbers in a vector register. vectors: vectors of output channels in the register tile of a
    matrix product, so that the accumulators and their operands fit into the register file.
    int8_dot: bytes are multiplied and summed by fours in one instruction (VNNI).
    native_half: the CPU converts float16 vectors by itself.
    features: LLVM's names of what the code uses beyond the architecture's baseline.
    """

    name: str
    lanes: int
    vectors: int
    int8_dot: bool
    native_half: bool
    features: frozenset[str]


ISAS: tuple[Isa, ...] = (
    Isa(
        name="avx512-vnni",
        lanes=16,
        vectors=4,
        int8_dot=True,
        native_half=True,
        features=frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni", "avx2", "fma", "f16c"}),
    ),
    Isa(
        name="avx2",
        lanes=8,
        vectors=2,
        int8_dot=False,
        native_half=True,
        features=frozenset({"avx2", "fma", "f16c"}),
    ),
    Isa(name="generic", lanes=4, vectors=2, int8_dot=False, native_half=False, features=frozenset()),
)
"""Best first: the first whose features the target has is used."""


def choose_isa(features: frozenset[str]) -> Isa:
    """The best instruction set among `features` (LLVM's names)."""
    return next(isa for isa in ISAS if isa.features <= features)


def isa_named(name: str) -> Isa:
    """The instruction set that an artifact's manifest names."""
    return next(isa for isa in ISAS if isa.name == name)


def fma(isa: Isa, a: PrimExpr, b: PrimExpr, c: PrimExpr) -> PrimExpr:
    """a * b + c on float32 vectors, in one rounding where the CPU can."""
    from tvm.script import tirx as T

    return T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id("llvm.fmuladd"), a, b, c, dtype=f"float32x{isa.lanes}")
