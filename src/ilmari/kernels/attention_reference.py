"""What both attention kernels compute, for their tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def attention_reference(
    q: NDArray[np.float64], k: NDArray[np.float64], v: NDArray[np.float64], position: int
) -> NDArray[np.float64]:
    """One sequence: q [m, heads, head_dim] scaled, at `position` onwards; k and v [length, kv_heads, head_dim]."""
    group = q.shape[1] // k.shape[1]
    scores = np.einsum("mhd,khd->hmk", q, np.repeat(k, group, axis=1))
    hidden = np.arange(len(k))[None, :] > position + np.arange(len(q))[:, None]
    scores[:, hidden] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed: NDArray[np.float64] = np.einsum("hmk,khd->mhd", weights, np.repeat(v, group, axis=1))
    return mixed
