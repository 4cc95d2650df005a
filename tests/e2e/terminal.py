"""A process with a terminal of its own, for tests of what a person sees and types."""

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType

_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
CTRL_D = "\x04"


class Terminal:
    """A context that runs `command` with stdin, stdout and stderr on a new terminal, whose Ctrl-C is a real SIGINT."""

    def __init__(self, command: Sequence[str]) -> None:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(theirs)
        self._unread = ""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def type(self, text: str) -> None:
        """Send keys; a line ends with a newline."""
        os.write(self._ours, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C, a moment late: Python's line editor notices one that comes before it waits only at a key."""
        time.sleep(0.2)
        self.type("\x03")

    def read(self, *, until: str = "", at_least: int = 0, seconds: float = 60) -> str:
        """What appears up to `until`, at least so many characters of it; what comes after is left to be read."""
        deadline = time.monotonic() + seconds
        while (end := self._unread.find(until, at_least)) < 0 or end + len(until) < at_least:
            ready, _, _ = select.select([self._ours], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"waited {seconds} s for {until!r} and saw {self._unread!r}"
            self._unread += os.read(self._ours, 65536).decode(errors="replace")
        end += len(until)
        seen, self._unread = self._unread[:end], self._unread[end:]
        return seen

    def wait(self, seconds: float = 60) -> int:
        """Exit code of the process, after what it writes last."""
        with contextlib.suppress(OSError):  # Linux's way of saying that the other end is closed
            while os.read(self._ours, 65536):
                pass
        return self._process.wait(seconds)
