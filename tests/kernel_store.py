"""Kernels compiled once in a test run: compiling those of a small model takes seconds, and most tests want the same."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ilmari.kernels.form import Form
from ilmari.kernels.isa import Isa
from ilmari.kernels.plan import Plan
from ilmari.kernels.target import Target
from ilmari.report import Progress

Compile = Callable[[Plan, Target, Progress], bytes]


@contextmanager
def kernel_store(folder: Path) -> Iterator[None]:
    """While it lasts, this process compiles no set of kernels that is in `folder`, which other processes may share."""
    from ilmari.kernels import compiler

    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "compile_kernels", _compile_once(compiler.compile_kernels, folder))
        yield


def _compile_once(compile_kernels: Compile, folder: Path) -> Compile:
    def compile_once(plan: Plan, target: Target, progress: Progress) -> bytes:
        path = folder / _key(plan, target)
        if not path.exists():
            part = path.with_suffix(f".{os.getpid()}")
            part.write_bytes(compile_kernels(plan, target, progress))
            part.rename(path)  # at once: another process never sees a part
        progress(1, 1)
        return path.read_bytes()

    return compile_once


def _key(plan: Plan, target: Target) -> str:
    """A digest of what the generators of all kernels are told."""
    from ilmari.kernels.compiler import kernels

    told = [
        (name, thunk.func.__name__, *(arg.name if isinstance(arg, Isa | Form) else arg for arg in thunk.args))
        for name, thunk in kernels(plan).items()
    ]
    assert "object at" not in repr(told)
    return hashlib.sha256(repr((told, target)).encode()).hexdigest()
