"""Kernels that note how long each call took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ilmari.kernels.library import KernelLibrary


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
