"""When work is spread over threads."""

from __future__ import annotations

from tvm.script import tirx as T

PARALLEL_ROWS = 8
"""Rows below which an element-wise kernel runs on the calling thread: waking the others costs more than it saves."""


@T.inline
def each_row(m, row, *operands):
    """Inline row(i, *operands) for each i below m."""
    if m < PARALLEL_ROWS:
        for i in T.serial(m):
            row(i, *operands)
    else:
        for i in T.parallel(m):
            row(i, *operands)
