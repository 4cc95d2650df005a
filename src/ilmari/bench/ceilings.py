"""What this machine can do at best, now: read bandwidth, and multiply-adds of each instruction that kernels use."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ilmari.kernels.isa import Isa, fma, isa_named
from ilmari.kernels.library import aligned_copy, aligned_zeros, load_runtime, tensor
from ilmari.kernels.target import HOST, resolve_target, tvm_target
from ilmari.settings import num_threads

if TYPE_CHECKING:
    from tvm.tirx import PrimExpr, PrimFunc

READ_BYTES = 1 << 30  # far more than any cache, and as long as a step of a small model takes
TURNS = 250_000  # of a loop of a dozen instructions: about a millisecond, seldom interrupted
READS, LOOPS = 2, 8  # of which the best counts: what slows the machine comes and goes

Pick = Callable[[Sequence[float]], float]
"""Which of several measurements to report: `max`, `min` or `statistics.median`."""


@dataclass(frozen=True)
class Rates:
    """What the machine does in a second on all threads.

    read_gb_s: 10^9 bytes read from memory. gmac_s: 10^9 products multiplied and added, by instruction; what the CPU
    lacks has no entry.
    """

    read_gb_s: float
    gmac_s: Mapping[str, float]

    @staticmethod
    def of(samples: Sequence[Rates], pick: Pick) -> Rates:
        """One of several measurements: `max` for the best, or the median."""
        return Rates(
            pick([sample.read_gb_s for sample in samples]),
            {name: pick([sample.gmac_s[name] for sample in samples]) for name in samples[0].gmac_s},
        )

    def fields(self) -> dict[str, float | None]:
        """As JSON has it: read_gb_s, and <instruction>_gmac_s, null for an instruction that the CPU lacks."""
        return {"read_gb_s": self.read_gb_s} | {f"{name}_gmac_s": self.gmac_s.get(name) for name in INSTRUCTIONS}


class Ceilings:
    """Measures the ceilings on the threads that models run on. Needs the compiler, and the memory that it reads."""

    def __init__(self, read_bytes: int = READ_BYTES, turns: int = TURNS) -> None:
        """Compile the kernels and fill `read_bytes` of memory; `turns` is how often a multiplying loop goes round."""
        load_runtime()
        self.isa = isa = host_isa()
        self._read = _read(isa, read_bytes)
        self._multiply = {i.name: i.prepare(isa, turns) for i in INSTRUCTIONS.values() if i.available}

    def sample(self) -> Rates:
        """One sample, in a tenth of a second: the best of a few runs of each kernel."""
        rates = {name: _best(measure, LOOPS) for name, measure in self._multiply.items()}
        return Rates(_best(self._read, READS), rates)


@cache
def host_isa() -> Isa:
    """The instruction set of kernels for this machine."""
    return isa_named(resolve_target(HOST).isa_name)


Measure = Callable[[], float]
"""One measurement: something per second."""


def _best(measure: Measure, times: int) -> float:
    return max(measure() for _ in range(times)) / 1e9


def _read(isa: Isa, read_bytes: int) -> Measure:
    from ilmari.bench.ceiling_kernels import STREAMS, read_kernel

    threads, lanes = num_threads(), isa.lanes
    turns = read_bytes // (threads * STREAMS * lanes * 4)
    data = aligned_zeros((threads, turns, STREAMS * lanes), np.int32)
    data.fill(1)  # memory that was never written is not there
    out = aligned_zeros((threads, STREAMS * lanes), np.int32)
    return _measure(read_kernel(threads, turns, lanes), (data, out), data.nbytes)


def _byte_dots(isa: Isa, turns: int) -> Measure:
    from ilmari.bench.ceiling_kernels import multiply_kernel
    from ilmari.kernels.byte_dot import dot_bytes

    threads, lanes = num_threads(), isa.lanes
    rng = np.random.default_rng(0)
    a = rng.integers(256, size=4 * lanes, dtype=np.uint8)
    b = rng.integers(-128, 128, size=4 * lanes, dtype=np.int8)
    kernel = multiply_kernel(threads, turns, lanes, "int32", ("uint8", "int8"), 4 * lanes, partial(dot_bytes, isa))
    return _multiply(kernel, a, b, (lanes, np.int32), turns * isa.dot_step * lanes)


def _word_dots(isa: Isa, turns: int) -> Measure:
    from ilmari.bench.ceiling_kernels import multiply_kernel
    from ilmari.kernels.byte_dot import as_words, dot_words

    threads, lanes = num_threads(), isa.lanes
    # One factor is the accumulator: where adding is an instruction of its own, a constant product would be made once.
    a, b = np.random.default_rng(0).integers(-128, 128, size=(2, lanes), dtype=np.int32)

    def multiply(total: PrimExpr, _: PrimExpr, b: PrimExpr) -> PrimExpr:
        return dot_words(isa, total, as_words(isa, total), as_words(isa, b))

    kernel = multiply_kernel(threads, turns, lanes, "int32", ("int32", "int32"), lanes, multiply)
    return _multiply(kernel, a, b, (lanes, np.int32), turns * 2 * lanes)


def _bf16_dots(_: Isa, turns: int) -> Measure:
    from ilmari.bench.ceiling_kernels import multiply_kernel
    from ilmari.kernels.bfloat16_dot import dot_bfloat16, with_dot

    threads = num_threads()
    # A bfloat16 is the upper half of a float32: these are pairs of numbers from 1 to 2.
    a, b = np.random.default_rng(0).integers(0x3F80, 0x4000, size=(2, 16, 2), dtype=np.uint16).view(np.int32)[..., 0]
    kernel = multiply_kernel(threads, turns, 16, "float32", ("int32", "int32"), 16, dot_bfloat16)
    return _multiply(with_dot(kernel), a, b, (16, np.float32), turns * 32)


def _float_products(isa: Isa, turns: int) -> Measure:
    from ilmari.bench.ceiling_kernels import multiply_kernel

    threads, lanes = num_threads(), isa.lanes
    a, b = np.random.default_rng(0).uniform(1, 2, (2, lanes)).astype(np.float32)
    kernel = multiply_kernel(
        threads, turns, lanes, "float32", ("float32", "float32"), lanes, lambda acc, a, b: fma(isa, a, b, acc)
    )
    return _multiply(kernel, a, b, (lanes, np.float32), turns * lanes)


def _multiply(kernel: PrimFunc, a: NDArray[Any], b: NDArray[Any], out: tuple[int, DTypeLike], products: int) -> Measure:
    """out: lanes and type of an accumulator; products: what one instruction multiplies, times the loop's turns."""
    from ilmari.bench.ceiling_kernels import CHAINS

    lanes, dtype = out
    accumulators = aligned_zeros((num_threads(), CHAINS * lanes), dtype)
    return _measure(kernel, (aligned_copy(a), aligned_copy(b), accumulators), num_threads() * CHAINS * products)


def _measure(function: PrimFunc, arrays: Sequence[NDArray[Any]], amount: float) -> Measure:
    """Calls of the compiled kernel: `amount` over the seconds that one takes."""
    import tvm

    module = tvm.IRModule({"kernel": function.with_attr("global_symbol", "kernel")})
    kernel = tvm.compile(module, target=tvm_target(resolve_target(HOST)), tir_pipeline="tirx")["kernel"]
    arguments = [tensor(array) for array in arrays]

    def measure() -> float:
        start = time.perf_counter()
        kernel(*arguments)
        return amount / (time.perf_counter() - start)

    return measure


@dataclass(frozen=True)
class Instruction:
    """An instruction that multiplies and adds: its short name, what it does, and which instruction sets have it.

    prepare(isa, turns) compiles the kernel that measures it: products per second.
    """

    name: str
    description: str
    known: Callable[[Isa], bool]
    prepare: Callable[[Isa, int], Measure]

    @property
    def available(self) -> bool:
        """Whether this CPU has it."""
        return self.known(host_isa())


INSTRUCTIONS = {
    instruction.name: instruction
    for instruction in (
        Instruction("int8", "byte dot product", lambda isa: isa.byte_dot is not None, _byte_dots),
        Instruction("int16", "16-bit integer dot product", lambda isa: isa.word_dot is not None, _word_dots),
        Instruction("bf16", "bfloat16 dot product", lambda isa: isa.bf16_dot, _bf16_dots),
        Instruction("fp32", "float32 multiply-add", lambda _: True, _float_products),
    )
}
