"""Token embedding: rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tvm.script import tirx as T

from ilmari.kernels.isa import Isa
from ilmari.kernels.numeric import widen
from ilmari.kernels.scheme import storage

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tvm.tirx import PrimFunc


def embedding(isa: Isa, vocab: int, hidden: int, dtype: str) -> PrimFunc:
    """Y[m, hidden] float32 = table[ids[m]], the table [vocab, hidden] of `dtype` (float16, or bfloat16 as uint16)."""
    lanes = isa.lanes

    @T.prim_func
    def kernel(ids: T.handle, table: T.Buffer((vocab, hidden), storage(dtype)), y: T.handle):
        m = T.int32()
        I = T.match_buffer(ids, (m,), "int32")
        Y = T.match_buffer(y, (m, hidden), "float32")
        for i in T.serial(m):
            for j in T.serial(hidden // lanes):
                Y[i, T.ramp(j * lanes, 1, lanes)] = widen(isa, table[I[i], T.ramp(j * lanes, 1, lanes)], dtype)

    return kernel


def embedding_reference(ids: NDArray[np.int32], table: NDArray[np.float16]) -> NDArray[np.float64]:
    """What `embedding` computes."""
    return table[ids].astype(np.float64)
