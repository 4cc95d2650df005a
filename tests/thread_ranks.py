"""Ranks as threads of one process: tensor parallelism without processes or MPI."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ilmari.engine.ranks import follow
from ilmari.errors import GroupError
from ilmari.kernels.library import load_runtime
from ilmari.parallel.group import ALONE, Group


class ThreadGroup:
    """One rank's end of a group whose ranks are threads."""

    def __init__(self, rank: int, shared: Shared) -> None:
        self.rank = rank
        self.size = self.local_size = shared.size
        self.shared = shared

    def _exchange(self, array: Any) -> list[Any]:
        self.shared.arrays[self.rank] = array
        self.shared.barrier.wait()
        return list(self.shared.arrays)

    def all_reduce(self, array: npt.NDArray[np.float32]) -> None:
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        total = sum(self._exchange(array)[1:], self.shared.arrays[0].copy())
        self.shared.barrier.wait()
        array[...] = total

    def gather(self, array: npt.NDArray[Any]) -> list[npt.NDArray[Any]] | None:
        arrays = [each.copy() for each in self._exchange(array)]
        assert len({(each.shape, each.dtype) for each in arrays}) == 1
        self.shared.barrier.wait()
        if self.rank:
            return None
        self.shared.gathered.append(sum(each.nbytes for each in arrays))
        return arrays

    def broadcast(self, data: bytes | None) -> bytes:
        if self.rank:
            return self.shared.told[self.rank].get()
        assert data is not None
        if self.shared.barrier.broken:
            raise GroupError("The ranks have ended.")
        for queue in self.shared.told[1:]:
            queue.put(data)
        return data

    def abandon(self) -> None:
        self.shared.abandoned = True
        self.shared.barrier.abort()


class Shared:
    """What the ends of a group have in common. gathered: bytes of each gathering."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.arrays: list[Any] = [None] * size
        self.barrier = threading.Barrier(size, timeout=60)
        self.told: list[SimpleQueue[bytes]] = [SimpleQueue() for _ in self.arrays]
        self.gathered: list[int] = []
        self.abandoned = False


@contextmanager
def thread_ranks() -> Iterator[None]:
    """While it lasts artifacts of several ranks run in this process, each other rank than 0 in a thread of its own that
    does what rank 0's engine tells it, as a process would."""
    load_runtime()
    leaders: list[ThreadGroup] = []
    threads: list[threading.Thread] = []

    def follow_or_break(group: ThreadGroup) -> None:
        try:
            follow(group)
        except BaseException:
            group.shared.barrier.abort()
            if not group.shared.abandoned:
                raise

    def form(ranks: int, _devices: str | None = None) -> Group:
        if ranks == 1:
            return ALONE
        shared = Shared(ranks)
        leaders.append(ThreadGroup(0, shared))
        for rank in range(1, ranks):
            threads.append(threading.Thread(target=follow_or_break, args=(ThreadGroup(rank, shared),), daemon=True))
            threads[-1].start()
        return leaders[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TVM_NUM_THREADS", "1")  # a rank's kernels run on its thread alone
        patch.setattr("ilmari.engine.opening.form", form)
        patch.setattr("ilmari.engine.opening.starts_ranks", lambda _ranks: False)
        yield
        for group in leaders:
            for queue in group.shared.told[1:]:
                queue.put(b"")
        for thread in threads:
            thread.join(60)
