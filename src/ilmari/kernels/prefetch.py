"""Asking the memory for what will be needed, before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm.script import tirx as T

if TYPE_CHECKING:
    from tvm.tirx import Buffer, PrimExpr

LINE = 64
"""Bytes in a cache line."""


def prefetch(buffer: Buffer, *index: PrimExpr, level: int = 2, write: bool = False) -> PrimExpr:
    """Start to load the cache line of an element into the cache of a level; to write it, if so.

    The element may lie outside the buffer: what is not there is not loaded.
    """
    locality = T.int32(4 - level)  # LLVM's scale: 3 is the first-level cache
    data = T.int32(1)
    return T.call_llvm_intrin("void", "llvm.prefetch", T.address_of(buffer[index]), T.int32(write), locality, data)


def prefetch_head(cache: Buffer, block: PrimExpr, head: PrimExpr, line: PrimExpr) -> PrimExpr:
    """Start to load a cache line of a head's keys or values in a block into the second-level cache.

    They are a page or less, far from the next block's, and the CPU's own guesses end with a page.
    """
    if cache.dtype == "int8":
        return prefetch(cache, block, head, line * LINE)
    at = line * (LINE // 2)
    return prefetch(cache, block, head, at // cache.shape[3], at % cache.shape[3])


@T.inline
def rows_ahead(rows, columns, first, column, buffer, write):
    """Start to load columns of some rows of float32 into the first-level cache, to write them, if so.

    Each row is another page, of which the CPU guesses nothing.
    """
    for i in T.unroll(rows):
        for line in T.unroll(max(1, columns * 4 // LINE)):
            T.evaluate(prefetch(buffer, first + i, column + line * (LINE // 4), level=1, write=write))
