"""Ranks as threads of one process, in place of an engine's runner: tensor parallelism without processes or MPI."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pytest

from ilmari.artifact.artifact import KERNELS, Artifact
from ilmari.engine.batch import Batch
from ilmari.engine.kv_cache import KvCache
from ilmari.engine.runner import Runner
from ilmari.kernels.library import KernelLibrary, load_runtime

Result = TypeVar("Result")


class ThreadGroup:
    """One rank's end of a group whose ranks are threads."""

    def __init__(self, rank: int, arrays: list[Any], barrier: threading.Barrier, sizes: list[int]) -> None:
        """`arrays`, as many as ranks, and `barrier` are the group's; `sizes` of what rank 0 gathers are noted there."""
        self.rank = rank
        self.size = len(arrays)
        self._arrays = arrays
        self._barrier = barrier
        self._sizes = sizes

    def _exchange(self, array: Any) -> list[Any]:
        self._arrays[self.rank] = array
        self._barrier.wait()
        return list(self._arrays)

    def all_reduce(self, array: npt.NDArray[np.float32]) -> None:
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        total = sum(self._exchange(array)[1:], self._arrays[0].copy())
        self._barrier.wait()
        array[...] = total

    def gather(self, array: npt.NDArray[Any]) -> list[npt.NDArray[Any]] | None:
        arrays = [each.copy() for each in self._exchange(array)]
        assert len({(each.shape, each.dtype) for each in arrays}) == 1
        self._barrier.wait()
        if self.rank:
            return None
        self._sizes.append(sum(each.nbytes for each in arrays))
        return arrays

    def broadcast(self, data: bytes | None) -> bytes:
        received: bytes = self._exchange(data)[0]
        self._barrier.wait()
        return received


class ThreadRunner:
    """As `Runner` of rank 0; the other ranks have each a thread and a cache of their own.

    gathered: bytes of each gathering.
    """

    def __init__(self, artifact: Artifact, max_rows: int, library: KernelLibrary | None = None) -> None:
        self.plan = artifact.manifest.plan
        self.library = library or KernelLibrary(artifact.folder / KERNELS)
        self.gathered: list[int] = []
        arrays = [None] * self.plan.tp
        self._barrier = threading.Barrier(self.plan.tp, timeout=60)
        self._threads = [ThreadPoolExecutor(1) for _ in arrays]
        self._runners = self._on_all(
            lambda rank: Runner(
                artifact, max_rows, self.library, ThreadGroup(rank, arrays, self._barrier, self.gathered)
            )
        )
        self._caches: list[KvCache] = []

    def forward(self, batch: Batch, cache: KvCache) -> npt.NDArray[np.float32]:
        """Logits, as `Runner`."""
        if not self._caches:
            self._caches = [cache, *(KvCache(self.plan, cache.blocks) for _ in self._runners[1:])]
        logits, *others = self._on_all(lambda rank: self._runners[rank].forward(batch, self._caches[rank]))
        assert all(not len(rows) for rows in others)
        return logits

    def _on_all(self, call: Callable[[int], Result]) -> list[Result]:
        def guarded(rank: int) -> Result:
            try:
                return call(rank)
            except BaseException:
                self._barrier.abort()
                raise

        futures = [thread.submit(guarded, rank) for rank, thread in enumerate(self._threads)]
        return [future.result() for future in futures]


@contextmanager
def thread_ranks() -> Iterator[None]:
    """While it lasts engines run artifacts of any number of ranks, and each rank's kernels run on its thread alone."""
    load_runtime()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TVM_NUM_THREADS", "1")
        patch.setattr("ilmari.engine.engine.Runner", ThreadRunner)
        yield
