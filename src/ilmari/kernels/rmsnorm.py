"""Root mean square normalisation (Zhang and Sennrich, 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tvm.script import tirx as T

from ilmari.kernels.isa import Isa, fma
from ilmari.kernels.numeric import lane_sum, narrow

if TYPE_CHECKING:
    from numpy.typing import NDArray


def norm_row(isa: Isa, hidden: int, eps: float, dtype: str = "float32") -> Any:
    """Inline: Y[o] = X[i] / sqrt(mean(X[i]**2) + eps) * weight, rows of [..., hidden], float32; Y of `dtype`."""
    lanes = isa.lanes

    @T.inline
    def row(i, X, weight, o, Y):
        square = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        square[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for j in T.serial(hidden // lanes):
            x: T.let = X[i, T.ramp(j * lanes, 1, lanes)]
            square[T.ramp(0, 1, lanes)] = fma(isa, x, x, square[T.ramp(0, 1, lanes)])
        factor: T.let = T.float32(1) / T.sqrt(lane_sum(square, range(lanes)) / T.float32(hidden) + T.float32(eps))
        for j in T.serial(hidden // lanes):
            normal: T.let = X[i, T.ramp(j * lanes, 1, lanes)] * T.broadcast(factor, lanes)
            Y[o, T.ramp(j * lanes, 1, lanes)] = narrow(isa, normal * weight[T.ramp(j * lanes, 1, lanes)], dtype)

    return row


def rmsnorm_reference(x: NDArray[np.float32], weight: NDArray[np.float32], eps: float) -> NDArray[np.float64]:
    """What `norm_row` computes."""
    wide = x.astype(np.float64)
    root: NDArray[np.float64] = np.sqrt(np.mean(wide**2, axis=-1, keepdims=True) + eps)
    return wide / root * weight
