"""Work that threads take over from each other: all of it is done once, and nothing waits for a thread that is busy."""

import numpy as np
import pytest
from tvm.script import tirx as T

from ilmari.kernels.llvm_source import with_llvm
from ilmari.kernels.stealing import in_parallel, with_stealing

APART = 16  # numbers to a cache line

LLVM_SOURCE = """
define linkonce_odr i32 @next_number(ptr %counter) #0 {
  %number = atomicrmw add ptr %counter, i32 1 seq_cst
  ret i32 %number
}

attributes #0 = { alwaysinline nounwind }
"""


def counting(isa, units):
    """begun and ended [units]: when each was, numbered as they come; unit 0 counts to `rounds`, the others to 100."""
    del isa

    @T.inline
    def work(rounds, unit, counter, begun, ended):
        begun[unit] = begun[unit] + T.call_extern("int32", "next_number", T.address_of(counter[0]))
        for _ in T.serial(T.Select(unit == 0, rounds, 100)):
            T.evaluate(T.call_extern("int32", "next_number", T.address_of(counter[APART])))
        ended[unit] = ended[unit] + T.call_extern("int32", "next_number", T.address_of(counter[0]))

    each = in_parallel(units, work)

    @T.prim_func
    def kernel(
        rounds: T.int32,
        counter: T.Buffer((APART + 1,), "int32"),
        begun: T.Buffer((units,), "int32"),
        ended: T.Buffer((units,), "int32"),
    ):
        each(rounds, counter, begun, ended)

    return with_llvm(with_stealing(kernel), LLVM_SOURCE)


def times(compiled, units, rounds):
    """When each unit began and ended."""
    begun, ended = np.zeros(units, np.int32), np.zeros(units, np.int32)
    compiled(counting, units)(rounds, np.zeros(APART + 1, np.int32), begun, ended)
    return begun, ended


@pytest.mark.parametrize("units", [1, 2, 3, 17, 64, 257])
def test_every_unit_is_done_once(compiled, units):
    for _ in range(20):
        begun, ended = times(compiled, units, 100)
        assert sorted([*begun, *ended]) == list(range(2 * units))
        assert (begun < ended).all()


def test_what_a_thread_cannot_begin_is_done_by_another(compiled):
    """Half of the units are the part of the thread that is busy with the first."""
    begun, ended = times(compiled, 64, 100_000_000)
    assert (begun[1:] < ended[0]).all()
