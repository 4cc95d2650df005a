"""The kernels that draw tokens, compiled for this machine."""

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

from small_model import SMALL

from ilmari.kernels.compiler import SAMPLING, compile_kernels
from ilmari.kernels.isa import isa_named
from ilmari.kernels.library import KernelLibrary
from ilmari.kernels.plan import Plan
from ilmari.kernels.scheme import SCHEMES
from ilmari.kernels.target import HOST, resolve_target


@cache
def sampling_kernels(vocab: int) -> KernelLibrary:
    """Those for so many tokens."""
    target = resolve_target(HOST)
    plan = Plan(replace(SMALL, vocab_size=vocab), SCHEMES["fp16"], isa_named(target.isa_name))
    code = compile_kernels(plan, target, lambda *_: None, [generate.__name__ for generate in SAMPLING])
    with tempfile.NamedTemporaryFile(suffix=".o") as file:
        file.write(code)
        file.flush()
        return KernelLibrary(Path(file.name))
