"""Compilations that share their kernels, so that a test may compile often.

As a program, `kernels_once.py CACHE ARGUMENT...` is `ilmari ARGUMENT...` with such kernels, and slow enough to be
killed at any step of a calibration.
"""

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ilmari.cli.app import main
from ilmari.compile import layer_pass, pipeline
from ilmari.compile.work_folder import WorkFolder
from ilmari.kernels import compiler


@contextmanager
def kernels_once(cache: Path) -> Iterator[None]:
    """Within the block kernels come from the folder `cache`, and are compiled only where they are not in it."""
    compile_kernels = compiler.compile_kernels

    def cached(plan: Any, target: Any, progress: Any, names: Any = None) -> bytes:
        path = cache / hashlib.sha256(repr((plan, target, names)).encode()).hexdigest()
        if not path.exists():
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_bytes(compile_kernels(plan, target, progress, names))
            partial.rename(path)
        return path.read_bytes()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "compile_kernels", cached)
        patch.setattr(layer_pass, "compile_kernels", cached)
        yield


class _SlowFolder(WorkFolder):
    """Rests after each of its files."""

    def _write(self, name: str, data: bytes) -> None:
        super()._write(name, data)
        time.sleep(0.3)


if __name__ == "__main__":
    with kernels_once(Path(sys.argv.pop(1))), pytest.MonkeyPatch.context() as changes:
        changes.setattr(pipeline, "WorkFolder", _SlowFolder)
        main()
