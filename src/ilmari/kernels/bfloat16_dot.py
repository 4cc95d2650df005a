"""The bfloat16 dot product of AVX512-BF16, which TVM's own types do not reach.

A few lines of LLVM's language, linked into the kernel and inlined, give vectors of 32-bit lanes, two numbers in each,
the type that the instruction wants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm.script import tirx as T

from ilmari.kernels.llvm_source import with_llvm

if TYPE_CHECKING:
    from tvm.tirx import PrimExpr, PrimFunc

LANES = 16

LLVM_SOURCE = """
declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float>, <32 x bfloat>, <32 x bfloat>)

define linkonce_odr <16 x float> @dot_bfloat16(<16 x float> %sum, <16 x i32> %a, <16 x i32> %b) #0 {
  %x = bitcast <16 x i32> %a to <32 x bfloat>
  %y = bitcast <16 x i32> %b to <32 x bfloat>
  %result = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float> %sum, <32 x bfloat> %x, <32 x bfloat> %y)
  ret <16 x float> %result
}

attributes #0 = { alwaysinline nounwind "target-features"="+avx512f,+avx512bf16" }
"""


def with_dot(kernel: PrimFunc) -> PrimFunc:
    """`kernel`, which may call `dot_bfloat16`, with what that needs."""
    return with_llvm(kernel, LLVM_SOURCE)


def dot_bfloat16(total: PrimExpr, a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """total + a[0] b[0] + a[1] b[1] in each lane, float32; a and b are int32 lanes of two bfloat16 numbers each.

    Numbers below 2**-126, float32's subnormals, count as zero.
    """
    return T.call_extern(f"float32x{LANES}", "dot_bfloat16", total, a, b)
