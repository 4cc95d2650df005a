"""This process under the eyes of a guard."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

from ilmari.parallel import guard


class Guard:
    """Kills this process when it is silent for too long, however it has stopped (see `guard`)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            (sys.executable, "-I", "-S", guard.__file__, str(os.getpid())),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not for it
        )

    def beat(self) -> None:
        """Give a sign of life."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it is gone, or told to go
            os.write(self._process.stdin.fileno(), b".")

    def dismiss(self) -> None:
        """Be on one's own again."""
        with self._process:  # ends with its stdin
            pass
