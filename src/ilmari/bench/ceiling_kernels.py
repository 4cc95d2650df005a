"""Kernels that do one thing only, as fast as the machine can: read memory, or multiply and add in registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import tvm
from tvm.script import tirx as T

if TYPE_CHECKING:
    from tvm.tirx import PrimExpr, PrimFunc

STREAMS = 8
"""Vectors that one turn of the reading loop sums, each into an accumulator of its own."""

CHAINS = 12
"""Accumulators of the multiplying loop: more than an instruction's latency times its rate; with operands they still fit
into 16 registers."""

BF16_DOT = """
target triple = "x86_64-unknown-linux-gnu"
declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float>, <32 x bfloat>, <32 x bfloat>)
define <16 x float> @bf16_dot(<16 x float> %acc, <16 x i32> %a, <16 x i32> %b) alwaysinline #0 {
  %x = bitcast <16 x i32> %a to <32 x bfloat>
  %y = bitcast <16 x i32> %b to <32 x bfloat>
  %r = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float> %acc, <32 x bfloat> %x, <32 x bfloat> %y)
  ret <16 x float> %r
}
attributes #0 = { "target-features"="+avx512f,+avx512bf16" }
"""
"""TVM's types do not reach this instruction, so it comes as LLVM's language."""


def read_kernel(threads: int, turns: int, lanes: int) -> PrimFunc:
    """Sums int32 [threads, turns, STREAMS * lanes] over all but the lanes; each thread reads one contiguous part."""

    @T.prim_func
    def kernel(
        data: T.Buffer((threads, turns, STREAMS * lanes), "int32"), out: T.Buffer((threads, STREAMS * lanes), "int32")
    ):
        for thread in T.parallel(threads):
            acc = T.alloc_buffer(
                (STREAMS * lanes,), "int32", scope="local", annotations={"disable_lower_builtin": True}
            )
            for s in T.unroll(STREAMS):
                acc[T.ramp(s * lanes, 1, lanes)] = T.broadcast(T.int32(0), lanes)
            for i in T.serial(turns):
                for s in T.unroll(STREAMS):
                    acc[T.ramp(s * lanes, 1, lanes)] = (
                        acc[T.ramp(s * lanes, 1, lanes)] + data[thread, i, T.ramp(s * lanes, 1, lanes)]
                    )
            for s in T.unroll(STREAMS):
                out[thread, T.ramp(s * lanes, 1, lanes)] = acc[T.ramp(s * lanes, 1, lanes)]

    return kernel


Multiply = Callable[["PrimExpr", "PrimExpr", "PrimExpr"], "PrimExpr"]


def multiply_kernel(
    threads: int, turns: int, lanes: int, dtype: str, operands: tuple[str, str], width: int, multiply: Multiply
) -> PrimFunc:
    """`turns` times CHAINS instructions on each thread, all operands in registers.

    multiply(acc, a, b): the instruction on an accumulator of `lanes` numbers of `dtype`, and on two vectors of `width`
    numbers of the types `operands`. out [threads, CHAINS * lanes] are the accumulators at the end.
    """
    a_dtype, b_dtype = operands

    @T.prim_func
    def kernel(
        a: T.Buffer((width,), a_dtype), b: T.Buffer((width,), b_dtype), out: T.Buffer((threads, CHAINS * lanes), dtype)
    ):
        for thread in T.parallel(threads):
            acc = T.alloc_buffer((CHAINS * lanes,), dtype, scope="local", annotations={"disable_lower_builtin": True})
            for s in T.unroll(CHAINS):
                acc[T.ramp(s * lanes, 1, lanes)] = out[thread, T.ramp(s * lanes, 1, lanes)]
            for _ in T.serial(turns):
                for s in T.unroll(CHAINS):
                    acc[T.ramp(s * lanes, 1, lanes)] = multiply(
                        acc[T.ramp(s * lanes, 1, lanes)], a[T.ramp(0, 1, width)], b[T.ramp(0, 1, width)]
                    )
            for s in T.unroll(CHAINS):
                out[thread, T.ramp(s * lanes, 1, lanes)] = acc[T.ramp(s * lanes, 1, lanes)]

    return kernel


def byte_dot(acc: PrimExpr, a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """acc[16] + sums of four products of uint8 a[64] and int8 b[64]."""
    instruction = T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpdpbusd.512")
    return T.call_llvm_pure_intrin(instruction, acc, a, b, dtype="int32x16")


def bf16_dot(acc: PrimExpr, a: PrimExpr, b: PrimExpr) -> PrimExpr:
    """acc[16] + sums of two products of bfloat16 pairs, given as int32 a[16] and b[16]; the kernel needs `BF16_DOT`."""
    return T.call_extern("float32x16", "bf16_dot", acc, a, b)


def with_llvm(function: PrimFunc, code: str) -> PrimFunc:
    """`function`, with LLVM code that it may call."""
    return function.with_body(tvm.tirx.AttrStmt("default", "pragma_import_llvm", code, function.body))
