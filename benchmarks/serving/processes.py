"""Processes and what the system knows of them: children, memory, pauses."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ENGINE = "ilmari.engine.process"


def family(pid: int) -> list[int]:
    """The process and all that it started."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for path in lists for child in path.read_text().split()]
    return [pid, *(member for child in children for member in family(child))]


def engine_of(pid: int) -> int | None:
    """The engine's process of a server, if there is one now."""
    for member in family(pid)[1:]:
        try:
            if ENGINE in Path(f"/proc/{member}/cmdline").read_text().split("\0"):
                return member
        except (FileNotFoundError, ProcessLookupError):
            continue
    return None


def anonymous_bytes(pid: int) -> int:
    """Resident memory that is no file: the pages of mapped weights come and go as the system likes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def pause(pid: int) -> None:
    """Stop it and all that it started: no CPU time until `resume`."""
    for member in family(pid):
        os.kill(member, signal.SIGSTOP)


def resume(pid: int) -> None:
    """Let it go on."""
    for member in family(pid):
        os.kill(member, signal.SIGCONT)


@contextmanager
def awake(pid: int) -> Iterator[None]:
    """Let a process that is paused go on for as long as the block lasts."""
    resume(pid)
    yield
    pause(pid)
