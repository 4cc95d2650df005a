"""As a program, `slow_ilmari.py STORE ARGUMENT...` is `ilmari ARGUMENT...` with kernels from a store, and slow.

It rests at each step of a calibration, so that it can be killed there.
"""

import sys
import time
from pathlib import Path

import pytest
from kernel_store import kernel_store

from ilmari.cli.app import main
from ilmari.compile import pipeline
from ilmari.compile.work_folder import WorkFolder


class _SlowFolder(WorkFolder):
    """Rests after each of its files."""

    def _write(self, name: str, data: bytes) -> None:
        super()._write(name, data)
        time.sleep(0.3)


if __name__ == "__main__":
    with kernel_store(Path(sys.argv.pop(1))), pytest.MonkeyPatch.context() as changes:
        changes.setattr(pipeline, "WorkFolder", _SlowFolder)
        main()
