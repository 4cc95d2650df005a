"""Kernels compiled once in a test run: compiling those of a small model takes seconds, and most tests want the same."""

import fcntl
import hashlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ilmari.kernels.form import Form
from ilmari.kernels.isa import Isa
from ilmari.kernels.plan import Plan
from ilmari.kernels.target import Target
from ilmari.report import Progress

Compile = Callable[..., bytes]


@contextmanager
def kernel_store(folder: Path) -> Iterator[None]:
    """While it lasts, this process compiles no set of kernels that is in `folder`, which other processes may share."""
    from ilmari.compile import layer_pass
    from ilmari.kernels import compiler

    folder.mkdir(exist_ok=True)
    compile_once = _compile_once(compiler.compile_kernels, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "compile_kernels", compile_once)
        patch.setattr(layer_pass, "compile_kernels", compile_once)
        yield


def _compile_once(compile_kernels: Compile, folder: Path) -> Compile:
    def compile_once(plan: Plan, target: Target, progress: Progress, names: Collection[str] | None = None) -> bytes:
        path = folder / _key(plan, target, names)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # who wants the same meanwhile waits for it
            if not path.exists():
                part = path.with_suffix(".part")
                part.write_bytes(compile_kernels(plan, target, progress, names))
                part.rename(path)  # at once: a process that is killed leaves no part of it
        progress(1, 1)
        return path.read_bytes()

    return compile_once


def _key(plan: Plan, target: Target, names: Collection[str] | None) -> str:
    """A digest of what the generators of the kernels are told."""
    from ilmari.kernels.compiler import kernels

    told = [
        (name, thunk.func.__name__, *(arg.name if isinstance(arg, Isa | Form) else arg for arg in thunk.args))
        for name, thunk in kernels(plan).items()
        if names is None or name in names
    ]
    assert "object at" not in repr(told)
    return hashlib.sha256(repr((told, target)).encode()).hexdigest()
