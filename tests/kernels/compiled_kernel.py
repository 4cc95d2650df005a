"""One kernel compiled for one instruction set, and called on guarded memory."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from packed import CPUS
from tvm.script import tirx as T
from tvm.tirx import PrimFunc

from ilmari.kernels import byte_dot
from ilmari.kernels.inlining import quick_inlining
from ilmari.kernels.isa import SDOT, SMMLA, Isa, isa_named
from ilmari.kernels.library import aligned_zeros, tensor
from ilmari.kernels.target import HOST, Target, host_arch, resolve_target, tvm_target

WIDTHS = tuple(map(isa_named, ("avx512-zen5", "avx2", "generic")))
"""Instruction sets that differ in more than their dot products."""

GUARD = 64  # bytes around every array a kernel is given
NAN_BYTE = 0xFF  # float16 and float32 of nothing else are NaN: a number read from a guard spoils the result

Array = NDArray[Any]


def target_for(isa: Isa) -> Target:
    """This machine if it would choose `isa` by itself, else a CPU that would."""
    host = resolve_target(HOST)
    # AVX512 has the instructions of AVX-VNNI too, in another encoding.
    covered = isa.features - {"avxvnni"} <= set(host.features) and "avx512vnni" in host.features
    return host if host.isa_name == isa.name or (isa.byte_dot and covered) else resolve_target(CPUS[isa.name])


class Kernel:
    """A compiled kernel. Calling it runs it on aligned, guarded copies of arrays, and copies all of them back."""

    def __init__(self, function: PrimFunc, target: Target) -> None:
        module = tvm.IRModule({"kernel": function.with_attr("global_symbol", "kernel")})
        self._executable = tvm.compile(module, target=tvm_target(target), tir_pipeline="tirx")

    def source(self, kind: str) -> str:
        """The machine code as text: `ll` is LLVM's language, `asm` the CPU's."""
        return str(self._executable.mod.inspect_source(kind))

    def __call__(self, *arguments: Array | float) -> None:
        arrays = [argument for argument in arguments if isinstance(argument, np.ndarray)]
        guarded = [_guarded(array) for array in arrays]
        tensors = iter(tensor(inner) for _, inner in guarded)
        self._executable["kernel"](*(next(tensors) if isinstance(a, np.ndarray) else a for a in arguments))
        for array, (outer, inner) in zip(arrays, guarded, strict=True):
            assert (outer[:GUARD] == NAN_BYTE).all(), "written before the start of an array"
            assert (outer[GUARD + array.nbytes :] == NAN_BYTE).all(), "written after the end of an array"
            array[...] = inner


def _guarded(array: Array) -> tuple[NDArray[np.uint8], Array]:
    outer = aligned_zeros((array.nbytes + 2 * GUARD,), np.uint8)
    outer[:] = NAN_BYTE
    inner = outer[GUARD : GUARD + array.nbytes].view(array.dtype).reshape(array.shape)
    inner[...] = array
    return outer, inner


@cache
def compile_once(isa: Isa, generate: Callable[..., PrimFunc], *arguments: Any) -> Kernel:
    """The kernel that generate(isa, ...) writes."""
    with quick_inlining(), pytest.MonkeyPatch.context() as patch:
        if written_out(isa):
            patch.setattr(byte_dot, "_dot", _by_definition)
        return Kernel(generate(isa, *arguments), resolve_target(HOST) if written_out(isa) else target_for(isa))


def written_out(isa: Isa) -> bool:
    """Whether tests of a kernel replace the instruction by its definition, because another architecture has it."""
    return "neon" in isa.features and host_arch() != "aarch64"


SUMMED: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {
    SDOT: (4, (0, 4, 8, 12), (0, 4, 8, 12)),
    SMMLA: (8, (0, 0, 8, 8), (0, 8, 0, 8)),  # two rows of eight bytes by two columns
}
"""ARM's instructions by their definition: how many products of signed bytes each lane sums, and the first operand's and
the second's byte where each begins."""


def _by_definition(_: Isa, instruction: str, total: Any, a: Any, b: Any) -> Any:
    products, *starts = SUMMED[instruction]
    wide = [T.cast(T.reinterpret(operand, dtype="int8x16"), "int32x16") for operand in (a, b)]
    for i in range(products):
        x, y = (
            tvm.tirx.Shuffle([operand], [i + start for start in lanes])
            for operand, lanes in zip(wide, starts, strict=True)
        )
        total = total + x * y
    return total
