"""Loops that stay as they are written: LLVM would unroll short ones, and copy those with a condition in them.

That is good for most. But a CPU's own prefetching follows a limited number of load instructions, each with its stride;
of a loop with more of them it does not follow all, and weights come from memory as slowly as misses do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm.script import tirx as T

from ilmari.kernels.dot_tile import DotTile
from ilmari.kernels.isa import Isa
from ilmari.kernels.llvm_source import with_llvm
from ilmari.kernels.plan import LinearShape

if TYPE_CHECKING:
    from tvm.tirx import PrimExpr, PrimFunc

LLVM_SOURCE = """
define linkonce_odr i32 @not_copied() #0 {
  call void asm sideeffect "", ""() #1
  ret i32 0
}

attributes #0 = { alwaysinline nounwind }
attributes #1 = { noduplicate nounwind }
"""


def with_loops_as_written(isa: Isa, kernel: PrimFunc) -> PrimFunc:
    """`kernel`, which may have `not_copied` in it, with what that needs."""
    return with_llvm(kernel, LLVM_SOURCE) if isa.loads else kernel


def not_copied(isa: Isa) -> PrimExpr:
    """Where `Isa.loads` asks for it, no instruction, but one that LLVM may not copy: nor the loop around it."""
    return T.call_extern("int32", "not_copied") if isa.loads else T.int32(0)


def steps_at_once(dots: DotTile, shape: LinearShape, rows: int) -> int:
    """Steps over the inputs that a tile's loop has written out: a run, or a part of it with no more than `Isa.loads`.

    A step loads a block's weights, vector by vector, and activations of each band; one step is written out however
    many loads it has.
    """
    steps, most = shape.run // shape.k_step, dots.isa.loads
    while most and steps > 1 and steps * (dots.vectors + dots.bands(rows)) > most:
        steps //= 2
    return steps
