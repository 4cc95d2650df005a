"""What this machine can do at best, measured by kernels that do nothing else.

Read bandwidth: vectors summed from an array far larger than the caches. Multiply-adds: one dot-product instruction on
registers, with enough accumulators to hide its latency. Both on all threads of the pool that the model uses.
"""

import time
from collections.abc import Callable

import numpy as np
import tvm
from tvm.script import tirx as T  # noqa: N812 (the dialect's own short name)

from ilmari.kernels.library import aligned_zeros, tensor
from ilmari.kernels.target import resolve_target, tvm_target
from ilmari.settings import num_threads

LANES = 16
ACCUMULATORS = 12
STREAMS = 8


def read_kernel(vectors: int):
    """Sums an int32 array of `vectors` vectors; each thread reads one contiguous part."""
    threads = num_threads()
    part = vectors // threads // STREAMS

    @T.prim_func
    def kernel(data: T.Buffer((threads, part, STREAMS * LANES), "int32"), out: T.Buffer((threads, LANES), "int32")):
        for thread in T.parallel(threads):
            acc = T.alloc_buffer(
                (STREAMS * LANES,), "int32", scope="local", annotations={"disable_lower_builtin": True}
            )
            for s in T.unroll(STREAMS):
                acc[T.ramp(s * LANES, 1, LANES)] = T.broadcast(T.int32(0), LANES)
            for i in T.serial(part):
                for s in T.unroll(STREAMS):
                    acc[T.ramp(s * LANES, 1, LANES)] = (
                        acc[T.ramp(s * LANES, 1, LANES)] + data[thread, i, T.ramp(s * LANES, 1, LANES)]
                    )
            for s in T.unroll(STREAMS):
                out[thread, T.ramp(0, 1, LANES)] = out[thread, T.ramp(0, 1, LANES)] + acc[T.ramp(s * LANES, 1, LANES)]

    return kernel


def byte_dot_kernel(steps: int):
    """`steps` rounds of ACCUMULATORS byte dot products on each thread, operands in registers."""
    threads = num_threads()

    @T.prim_func
    def kernel(a: T.Buffer((64,), "uint8"), b: T.Buffer((64,), "int8"), out: T.Buffer((threads, LANES), "int32")):
        for thread in T.parallel(threads):
            acc = T.alloc_buffer(
                (ACCUMULATORS * LANES,), "int32", scope="local", annotations={"disable_lower_builtin": True}
            )
            for s in T.unroll(ACCUMULATORS):
                acc[T.ramp(s * LANES, 1, LANES)] = T.broadcast(T.int32(0), LANES)
            for _ in T.serial(steps):
                for s in T.unroll(ACCUMULATORS):
                    acc[T.ramp(s * LANES, 1, LANES)] = T.call_llvm_pure_intrin(
                        T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpdpbusd.512"),
                        acc[T.ramp(s * LANES, 1, LANES)],
                        a[T.ramp(0, 1, 64)],
                        b[T.ramp(0, 1, 64)],
                        dtype="int32x16",
                    )
            for s in T.unroll(ACCUMULATORS):
                out[thread, T.ramp(0, 1, LANES)] = out[thread, T.ramp(0, 1, LANES)] + acc[T.ramp(s * LANES, 1, LANES)]

    return kernel


def _compile(function) -> Callable[..., None]:
    module = tvm.IRModule({"kernel": function.with_attr("global_symbol", "kernel")})
    return tvm.compile(module, target=tvm_target(resolve_target("host")), tir_pipeline="tirx")["kernel"]


def timed(function: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


class Ceilings:
    """Measures this machine's ceilings; one call of each method is one sample."""

    def __init__(self, read_bytes: int = 1 << 30, steps: int = 2_000_000) -> None:
        vectors = read_bytes // 64
        shape = (num_threads(), vectors // num_threads() // STREAMS, STREAMS * LANES)
        self._data = aligned_zeros(shape, np.int32)
        self._data.fill(1)
        self._out = aligned_zeros((num_threads(), LANES), np.int32)
        self._read = _compile(read_kernel(vectors))
        self._bytes = [aligned_zeros((64,), dtype) for dtype in (np.uint8, np.int8)]
        self._dot = _compile(byte_dot_kernel(steps))
        self._steps = steps

    def read_gb_s(self) -> float:
        """Read bandwidth in 10^9 bytes a second."""
        arguments = tensor(self._data), tensor(self._out)
        return self._data.nbytes / timed(lambda: self._read(*arguments)) / 1e9

    def int8_gmac_s(self) -> float:
        """Byte multiply-adds, 10^9 a second (AVX512-VNNI)."""
        arguments = *map(tensor, self._bytes), tensor(self._out)
        seconds = timed(lambda: self._dot(*arguments))
        return num_threads() * self._steps * ACCUMULATORS * 64 / seconds / 1e9
