"""The gated activation of the feed-forward block: SiLU(gate) * up (Shazeer, 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tvm.script import tirx as T

from ilmari.kernels.isa import Isa
from ilmari.kernels.numeric import exp, narrow
from ilmari.kernels.schedule import PARALLEL_ROWS
from ilmari.kernels.scheme import storage

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tvm.tirx import PrimFunc


def silu_row(isa: Isa, size: int, dtype: str = "float32") -> Any:
    """Inline: Y[o] = g / (1 + exp(-g)) * u with g = X[i, :size], u = X[i, size:2*size], float32; Y of `dtype`."""
    lanes = isa.lanes

    @T.inline
    def row(i, X, o, Y):
        for j in T.serial(size // lanes):
            gate: T.let = X[i, T.ramp(j * lanes, 1, lanes)]
            sigmoid: T.let = T.broadcast(T.float32(1), lanes) / (T.broadcast(T.float32(1), lanes) + exp(isa, -gate))
            product: T.let = gate * sigmoid * X[i, T.ramp(size + j * lanes, 1, lanes)]
            Y[o, T.ramp(j * lanes, 1, lanes)] = narrow(isa, product, dtype)

    return row


def silu_multiply(isa: Isa, size: int, stride: int, dtype: str = "float32") -> PrimFunc:
    """Y[m, size] = g / (1 + exp(-g)) * u with g = X[:, :size], u = X[:, size:2*size].

    X is [m, stride], float32; Y of `dtype`, float32 or bfloat16.
    """
    row = silu_row(isa, size, dtype)

    @T.prim_func
    def kernel(x: T.handle, y: T.handle):
        m = T.int32()
        X = T.match_buffer(x, (m, stride), "float32")
        Y = T.match_buffer(y, (m, size), storage(dtype))
        if m < PARALLEL_ROWS:
            for i in T.serial(m):
                row(i, X, i, Y)
        else:
            for i in T.parallel(m):
                row(i, X, i, Y)

    return kernel


def silu_multiply_reference(x: NDArray[np.float32], size: int) -> NDArray[np.float64]:
    """What `silu_multiply` computes."""
    gate, up = x[:, :size].astype(np.float64), x[:, size : 2 * size].astype(np.float64)
    sigmoid: NDArray[np.float64] = 1 / (1 + np.exp(-gate))
    return gate * sigmoid * up
