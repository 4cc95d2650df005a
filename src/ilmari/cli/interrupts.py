"""Ctrl-C as a wish to stop one thing, rather than the program."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType


@contextmanager
def first_interrupt() -> Iterator[Event]:
    """Until the block ends, the first Ctrl-C sets the event that is yielded; a second one is a KeyboardInterrupt.

    An event that is asked for between two steps leaves the engine whole, which an exception in mid-step might not.
    """
    wished = Event()

    def note(_signal: int, _frame: FrameType | None) -> None:
        if wished.is_set():
            raise KeyboardInterrupt
        wished.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield wished
    finally:
        signal.signal(signal.SIGINT, before)
