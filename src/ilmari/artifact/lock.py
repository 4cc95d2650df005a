"""Locks on files that end with their process, and that other containers and hosts see too."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ilmari.errors import OutputError

if sys.platform != "win32":
    import fcntl


def lock(file: BinaryIO) -> bool | None:
    """Lock an open file until it is closed or its process ends.

    Returns whether it is locked now: False if another holds it, None where the system or its file system has no such
    locks.
    """
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def system_errors(folder: Path) -> Iterator[None]:
    """What the system refuses, as an error that names `folder`.

    Raises:
        OutputError: no space, no permission, ...
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror or error}); free space, or choose another `workspace.path`."
        ) from error
