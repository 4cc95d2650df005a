"""Activations to bfloat16, for `linear_bfloat16`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tvm.script import tirx as T

from ilmari.kernels.isa import Isa
from ilmari.kernels.numeric import bfloat16_bits
from ilmari.kernels.schedule import PARALLEL_ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tvm.tirx import PrimFunc


def round_rows(isa: Isa, k: int) -> PrimFunc:
    """Y[m, k] = X[m, k] in bfloat16, to nearest even; X is float32, Y the bits, uint16."""
    lanes = isa.lanes

    @T.inline
    def row(i, X, Y):
        for j in T.serial(k // lanes):
            bits: T.let = bfloat16_bits(isa, X[i, T.ramp(j * lanes, 1, lanes)])
            Y[i, T.ramp(j * lanes, 1, lanes)] = T.cast(bits, f"uint16x{lanes}")

    @T.prim_func
    def kernel(x: T.handle, y: T.handle):
        m = T.int32()
        X = T.match_buffer(x, (m, k), "float32")
        Y = T.match_buffer(y, (m, k), "uint16")
        if m < PARALLEL_ROWS:
            for i in T.serial(m):
                row(i, X, Y)
        else:
            for i in T.parallel(m):
                row(i, X, Y)

    return kernel


def round_rows_reference(x: NDArray[np.float32]) -> NDArray[np.uint16]:
    """What `round_rows` computes: of the two neighbours, the nearer; of two equally near, the even one."""
    below = x.view(np.uint32) >> 16
    neighbours = np.stack([below, below + 1])
    distances = np.abs((neighbours << 16).view(np.float32).astype(np.float64) - x)
    up = (distances[1] < distances[0]) | ((distances[1] == distances[0]) & (below % 2 == 1))
    return np.where(up, neighbours[1], below).astype(np.uint16)
