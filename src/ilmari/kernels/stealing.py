"""Work stealing: a thread that is done with its own part of the work takes over what another has not begun.

TVM gives each thread an even part of a parallel loop, and a kernel is done when the last thread is. Where one is held
up, by another process or by a host that has taken its core away, the others would wait for all of its part; so they
wait for the unit at most that it is in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm.script import tirx as T

from ilmari.kernels.llvm_source import with_llvm

if TYPE_CHECKING:
    from tvm.tirx import PrimExpr, PrimFunc

# What a unit computes is read after the loop alone, when TVM has waited for all threads; the marks need no other order.
LLVM_SOURCE = """
define linkonce_odr i32 @is_claimed(ptr %unit) #0 {
  %now = load atomic i32, ptr %unit monotonic, align 4
  ret i32 %now
}

define linkonce_odr i32 @claim_unit(ptr %unit) #0 {
  %before = atomicrmw xchg ptr %unit, i32 1 monotonic
  ret i32 %before
}

attributes #0 = { alwaysinline nounwind }
"""


def with_stealing(kernel: PrimFunc) -> PrimFunc:
    """`kernel`, which uses `in_parallel`, with the atomic operations linked in."""
    return with_llvm(kernel, LLVM_SOURCE)


def in_parallel(units: int, work: Any) -> Any:
    """Inline each(m, *operands): work(m, unit, *operands) for every unit, by every thread that TVM gives a part.

    A thread goes through its own part in order, up to what another has begun, and then backwards from where it began:
    through the end of the part before it, whose thread will come there last. (Products ask the memory for the weights
    of the unit after theirs, so those of units taken over come unasked.)
    """

    def call(name: str, claimed: Any, unit: PrimExpr | int) -> PrimExpr:
        return T.call_extern("int32", name, T.address_of(claimed[unit]))

    def around(unit: PrimExpr) -> PrimExpr:
        return T.Select(unit < 0, unit + units, T.Select(unit < units, unit, unit - units))

    @T.inline
    def each(m, *operands):
        claimed = T.alloc_buffer((units + 1,), "int32")  # [units] is set once every unit is claimed
        for unit in T.serial(units + 1):
            claimed[unit] = 0
        for first in T.parallel(units):
            if call("is_claimed", claimed, units) == 0:
                forward = T.alloc_buffer((1,), "int32", scope="local", annotations={"disable_lower_builtin": True})
                next_unit = T.alloc_buffer((1,), "int32", scope="local", annotations={"disable_lower_builtin": True})
                forward[0] = units
                for step in T.serial(units):
                    if (step < forward[0]) & (call("is_claimed", claimed, around(first + step)) != 0):
                        forward[0] = step
                    back: T.let = forward[0] - 1 - step
                    # In a buffer: TVM's simplifier would take the expression apart wherever `work` has an index.
                    next_unit[0] = around(first + T.Select(back < 0, back, step))
                    unit: T.let = next_unit[0]
                    # TVM's `and` evaluates both sides, and a load is cheaper than an exchange.
                    if call("is_claimed", claimed, unit) == 0:  # noqa: SIM102
                        if call("claim_unit", claimed, unit) == 0:
                            work(m, unit, *operands)
                T.evaluate(call("claim_unit", claimed, units))

    return each
