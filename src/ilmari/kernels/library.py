"""Compiled kernels at run time: object code through LLVM's JIT linker, on TVM's small runtime.

Only the runtime library is loaded: the compiler, a quarter of a gigabyte, is not needed to run, nor is a linker.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tvm_ffi
from numpy.typing import DTypeLike, NDArray

from ilmari.errors import ArtifactError
from ilmari.settings import num_threads, pinned_cpus, set_num_threads

ALIGNMENT = 64
"""Bytes: compiled code loads whole vectors from the start of each array, which must lie on a vector's boundary."""

RUNTIME_NAMES = {"linux": "libtvm_runtime.so", "darwin": "libtvm_runtime.dylib", "win32": "tvm_runtime.dll"}


def aligned_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros that kernels may be given; the system hands out its memory as it is first touched."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    storage = np.zeros(size + ALIGNMENT, np.uint8)
    start = -storage.ctypes.data % ALIGNMENT
    return storage[start : start + size].view(dtype).reshape(shape)


def aligned_copy(array: NDArray[Any]) -> NDArray[Any]:
    """A copy that kernels may be given."""
    copy = aligned_zeros(array.shape, array.dtype)
    copy[...] = array
    return copy


def tensor(array: NDArray[Any]) -> tvm_ffi.Tensor:
    """A kernel's view of an array; no copy. The array must be contiguous and, unless empty, on a vector's boundary."""
    assert array.size == 0 or array.ctypes.data % ALIGNMENT == 0, "unaligned array: allocate it with aligned_zeros"
    view: tvm_ffi.Tensor = tvm_ffi.from_dlpack(array)
    return view


class KernelLibrary:
    """The kernels of one artifact, callable by name with tensors."""

    def __init__(self, path: Path) -> None:
        """Link the object file at `path`.

        Raises:
            ArtifactError: the linker cannot make sense of the file.
        """
        load_runtime()
        from tvm_ffi_orcjit import ExecutionSession

        self._session = ExecutionSession()
        try:
            # The loader would ask a C++ compiler where its library is; kernels need neither.
            self._module = self._session.load_module(str(path), cxx=os.devnull)
        except RuntimeError as error:
            raise ArtifactError(f"{path} cannot be linked ({error}); compile the model again.") from error

    def __getitem__(self, name: str) -> Callable[..., None]:
        function: Callable[..., None] = self._module.get_function(name)
        return function


@cache
def load_runtime() -> None:
    """Load TVM's runtime with the settings' number of threads; to be called before any kernel runs."""
    package = importlib.util.find_spec("tvm")
    assert package is not None
    assert package.submodule_search_locations is not None
    library = Path(package.submodule_search_locations[0]) / "lib" / RUNTIME_NAMES[sys.platform]
    # The runtime reads these when its first parallel kernel starts. Its own guess of the size counts physical cores,
    # wrongly in virtual machines; and it would pin the calling thread, and all that Python starts later, to one core.
    os.environ["TVM_NUM_THREADS"] = str(num_threads())
    os.environ["TVM_BIND_THREADS"] = "0"
    # Threads without work spin this many times and then sleep: as fast as the runtime's own 300,000, and kinder.
    os.environ["TVM_THREAD_POOL_SPIN_COUNT"] = "10000"
    # Kernels find TVMBackendParallelLaunch and its like through the process's global symbols.
    runtime = ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    if cpus := pinned_cpus():
        _pin(runtime, cpus)


def _pin(runtime: ctypes.CDLL, cpus: Sequence[int]) -> None:
    """Keep the calling thread and the runtime's others each on a CPU: a task of a parallel loop for each thread."""
    set_num_threads(len(cpus))  # the settings would count the one CPU that is left to this thread

    def task(index: int, _environment: int, _data: int) -> int:
        os.sched_setaffinity(0, {cpus[index]})
        return 0

    as_c = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    runtime.TVMBackendParallelLaunch(as_c(task), None, len(cpus))
