"""Processes that carry a mark in their environment: found wherever they went, and none may be left behind."""

import os
import time
import uuid
from pathlib import Path

NAME = "ILMARI_TEST_MARK"


class Mark:
    """A mark for a process and all that come of it."""

    def __init__(self) -> None:
        self._entry = f"{NAME}={uuid.uuid4().hex}"

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment, and the mark."""
        return os.environ | dict([self._entry.split("=")])

    def processes(self) -> dict[int, dict[str, str]]:
        """The environment of every marked process by its number; those that have ended are none."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                entries = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
                ended = (folder / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
            except OSError:  # it ended meanwhile
                continue
            if self._entry in entries and not ended:
                found[int(folder.name)] = dict(entry.partition("=")[::2] for entry in entries)
        return found

    def ranks(self) -> dict[int, int]:
        """The number of each rank's process."""
        return {
            int(environment["PMI_RANK"]): pid
            for pid, environment in self.processes().items()
            if "PMI_RANK" in environment and b".py" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        }

    def assert_gone(self, within: float) -> None:
        """No marked process is left after `within` seconds."""
        until = time.monotonic() + within
        while left := self.processes():
            assert time.monotonic() < until, f"left behind: {[_command(pid) for pid in left]}"
            time.sleep(0.05)


def _command(pid: int) -> str:
    return f"{pid} {Path(f'/proc/{pid}/cmdline').read_bytes().decode().replace(chr(0), ' ')}"
