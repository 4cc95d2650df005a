"""Asking the memory for keys and values before they are read.

A head's part of a block is a page or less, far from the next one, and the CPU's own guesses end with a page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm.script import tirx as T

if TYPE_CHECKING:
    from tvm.tirx import Buffer, PrimExpr

LINE = 64
"""Bytes in a cache line."""


def prefetch(cache: Buffer, block: PrimExpr, head: PrimExpr, line: PrimExpr) -> PrimExpr:
    """Start to load a cache line of a head's keys or values in a block into the second-level cache."""
    at = line * (LINE // (2 if cache.dtype == "float16" else 1))
    place = (at // cache.shape[3], at % cache.shape[3]) if cache.dtype == "float16" else (at,)
    address = T.address_of(cache[(block, head, *place)])
    read, second_level, data = T.int32(0), T.int32(2), T.int32(1)
    return T.call_llvm_intrin("void", "llvm.prefetch", address, read, second_level, data)
