"""Inline functions of kernels, read without TVM's look at the source of every frame on the stack."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tvm.script.parser.core.parser import ScriptMacro


@contextmanager
def quick_inlining() -> Iterator[None]:
    """While it lasts, a call of an inline function finds the parser that reads the kernel at once.

    TVM describes each frame with `inspect` to find it, which searches all loaded modules for the frame's source: that
    takes most of the time in which a kernel is generated.
    """
    slow = ScriptMacro._find_parser_def
    ScriptMacro._find_parser_def = _find_parser
    try:
        yield
    finally:
        ScriptMacro._find_parser_def = slow


def _find_parser(_: ScriptMacro) -> Any:
    """The parser that the nearest frame with one has among its globals: kernels are evaluated there."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        parser = frame.f_globals.get(ScriptMacro.parser_object_name)
        if parser is not None:
            return parser
        frame = frame.f_back
    raise AssertionError("an inline function is called outside a kernel")
