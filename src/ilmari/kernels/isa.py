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
    native_half: the CPU converts float16 vectors by itself.
    features: LLVM's names of what the code uses beyond the architecture's baseline.
    byte_dot: LLVM's name of the instruction that multiplies weights by signed bytes and sums the products, if any.
    word_dot: of the one that multiplies 16-bit integers and sums them by twos.
    byte_offset: what is added to int8 weights when they are stored, 128 where those instructions want them unsigned.
    traded: of four groups of inputs, how many `linear_pairs` computes with half the multiplications and more additions.
    bf16_dot: bfloat16 numbers are multiplied and summed by twos in one instruction (AVX512-BF16).
    dot_rows: rows of activations that `byte_dot` multiplies by the same weights. Where it is more than one, the
    instruction is a matrix product: lane c * dot_rows + r has the sum of channel c and row r.
    loads: most load instructions in a loop that the CPU's own prefetching still follows; None where no limit was
    found. prefetch_level: the cache into which it is asked for weights that come next. ahead_tiles: register tiles of a
    step from which on they ask for those of the next block; with fewer, most of the time goes into reading as it is.
    lookahead: bytes between the weights that a step of fewer tiles multiplies by and those that it asks for; 0 where
    the CPU looks far enough ahead by itself.
    """

    name: str
    lanes: int
    vectors: int
    native_half: bool
    features: frozenset[str]
    byte_dot: str | None = None
    word_dot: str | None = None
    byte_offset: int = 128
    traded: int = 0
    bf16_dot: bool = False
    dot_rows: int = 1
    loads: int | None = None
    prefetch_level: int = 2
    ahead_tiles: int = 3
    lookahead: int = 0

    @property
    def dot_step(self) -> int:
        """Inputs of a channel whose products with bytes one lane sums: they lie side by side in packed weights."""
        return 4 * self.dot_rows

    @property
    def fast_words(self) -> bool:
        """16-bit products are faster than float32 ones: AVX2 alone takes two instructions for as many."""
        return self.word_dot is not None and self.byte_dot is not None


AVX512 = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni", "avx2", "fma", "f16c"})
AVX512_AMD = AVX512 | {"avx512bf16", "sse4a"}
VNNI_512 = "llvm.x86.avx512.vpdpbusd.512", "llvm.x86.avx512.vpdpwssd.512"
VNNI_256 = "llvm.x86.avx512.vpdpbusd.256", "llvm.x86.avx512.vpdpwssd.256"
PMADDWD = "llvm.x86.avx2.pmadd.wd"
SDOT = "llvm.aarch64.neon.sdot.v4i32.v16i8"
SMMLA = "llvm.aarch64.neon.smmla.v4i32.v16i8"

ISAS: tuple[Isa, ...] = (
    # AMD's cores, and no others, have sse4a; they add vectors on other ports than they multiply on. Of those with
    # AVX512, Zen 5 and later have AVX-VNNI as well; where a system hides that, they get the next row.
    Isa(
        "avx512-zen5",
        16,
        4,
        True,
        AVX512_AMD | {"avxvnni"},
        *VNNI_512,
        traded=3,
        bf16_dot=True,
        loads=24,
        prefetch_level=1,
        ahead_tiles=2,
        lookahead=4096,
    ),
    Isa("avx512-amd", 16, 4, True, AVX512_AMD, *VNNI_512, traded=3, bf16_dot=True),
    Isa("avx512-bf16", 16, 4, True, AVX512 | {"avx512bf16"}, *VNNI_512, bf16_dot=True),
    Isa("avx512-vnni", 16, 4, True, AVX512, *VNNI_512),
    Isa("avx-vnni", 8, 2, True, frozenset({"avxvnni", "avx2", "fma", "f16c"}), *VNNI_256),
    Isa("avx2", 8, 2, True, frozenset({"avx2", "fma", "f16c"}), word_dot=PMADDWD),
    Isa("neon-i8mm", 4, 4, True, frozenset({"neon", "i8mm"}), byte_dot=SMMLA, byte_offset=0, dot_rows=2),
    Isa("neon-dotprod", 4, 4, True, frozenset({"neon", "dotprod"}), byte_dot=SDOT, byte_offset=0),
    Isa("generic", 4, 2, False, frozenset()),
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
