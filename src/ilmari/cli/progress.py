"""Progress of a long job on stderr: a bar for each step, or a line for each finished step where no terminal looks."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ilmari.cli.units import si
from ilmari.report import Report


@contextmanager
def progress(*, live: bool = True) -> Iterator[Report]:
    """Show the steps of a job until the block ends; yields the function to report them to.

    live: clocks go on between reports. A job that measures would be slowed by the thread that draws them.
    """
    console = Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal:
        with _bars(console, live) as bars:
            yield _BarReport(bars)
    else:
        yield _LineReport()


def _bars(console: Console, live: bool) -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        _Count(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    return Progress(*columns, console=console, auto_refresh=live)


class _Count(ProgressColumn):
    """How many of how many, the millions in short."""

    def render(self, task: Task) -> Text:
        return Text(f"{si(task.completed, '')}/{si(task.total or 0, '')}")


class _BarReport:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: str, done: int, total: int) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, total=total)
        self._bars.update(self._tasks[step], completed=done, total=total, refresh=True)


class _LineReport:
    """Counts a step's seconds from the end of the one before, so that a step may report only once."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, step: str, done: int, total: int) -> None:
        if done == total:
            now = time.monotonic()
            print(f"{step}: {now - self._began:.1f} s", file=sys.stderr, flush=True)
            self._began = now
