"""The gated activation of the feed-forward block: SiLU(gate) * up (Shazeer, 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tvm.script import tirx as T

from ilmari.kernels.isa import Isa
from ilmari.kernels.numeric import exp, narrow

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tvm.tirx import PrimExpr


def gated(isa: Isa, gate: PrimExpr, up: PrimExpr) -> PrimExpr:
    """gate / (1 + exp(-gate)) * up, float32 vectors."""
    one = T.broadcast(T.float32(1), isa.lanes)
    return gate * (one / (one + exp(isa, -gate))) * up


def silu_row(isa: Isa, size: int, dtype: str = "float32") -> Any:
    """Inline: Y[o] = g / (1 + exp(-g)) * u with g = X[i, :size], u = X[i, size:2*size], float32; Y of `dtype`."""
    lanes = isa.lanes

    @T.inline
    def row(i, X, o, Y):
        for j in T.serial(size // lanes):
            gate: T.let = X[i, T.ramp(j * lanes, 1, lanes)]
            product: T.let = gated(isa, gate, X[i, T.ramp(size + j * lanes, 1, lanes)])
            Y[o, T.ramp(j * lanes, 1, lanes)] = narrow(isa, product, dtype)

    return row


def silu_multiply_reference(x: NDArray[np.float32], size: int) -> NDArray[np.float64]:
    """What `silu_row` computes."""
    gate, up = x[:, :size].astype(np.float64), x[:, size : 2 * size].astype(np.float64)
    sigmoid: NDArray[np.float64] = 1 / (1 + np.exp(-gate))
    return gate * sigmoid * up
