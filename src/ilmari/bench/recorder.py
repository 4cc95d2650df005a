"""Kernels, and sums over ranks, that note how long each call took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilmari.kernels.library import KernelLibrary
from ilmari.parallel.group import Group

ALL_REDUCE = "all_reduce"
"""The name of the calls that a `TimedGroup` notes: a sum over the ranks, and the wait for the slowest of them."""


@dataclass(frozen=True)
class Call:
    """One call: the kernel's name, the rows it was given, seconds."""

    name: str
    rows: int
    seconds: float


class RecordingLibrary(KernelLibrary):
    """An artifact's kernels; `calls` grows with each call of any of them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._calls: list[Call] = []

    def take_calls(self) -> tuple[Call, ...]:
        """The calls since the last time, in order."""
        calls = tuple(self._calls)
        self._calls.clear()
        return calls

    def __getitem__(self, name: str) -> Callable[..., None]:
        kernel = super().__getitem__(name)

        def timed(*arguments: Any) -> None:
            start = time.perf_counter()
            kernel(*arguments)
            seconds = time.perf_counter() - start
            self._calls.append(Call(name, arguments[0].shape[0], seconds))  # every kernel's first argument has the rows

        return timed


class TimedGroup:
    """A group that notes its sums; for the rest it is the one that it was made of."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._calls: list[Call] = []
        self.rank, self.size, self.local_size = group.rank, group.size, group.local_size
        self.gather, self.broadcast, self.abandon = group.gather, group.broadcast, group.abandon

    def all_reduce(self, array: NDArray[np.float32]) -> None:
        """As `Group` says."""
        start = time.perf_counter()
        self._group.all_reduce(array)
        if self.size > 1:
            self._calls.append(Call(ALL_REDUCE, len(array), time.perf_counter() - start))

    def take_calls(self) -> tuple[Call, ...]:
        """The sums since the last time, in order."""
        calls = tuple(self._calls)
        self._calls.clear()
        return calls
