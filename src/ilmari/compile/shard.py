"""A rank's part of a layer's matrices, taken out of the whole ones once these are quantized.

So a scale is that of the whole channel on whichever ranks the channel is, and ranks together have the same numbers as
one rank alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ilmari.kernels.plan import Plan
from ilmari.quant.weight import ScaledWeight

Number = TypeVar("Number", bound=np.generic)
Places = NDArray[np.intp]

NOWHERE = -1
"""In place of a row or a column of the whole matrix: zeros."""


def shard(plan: Plan, name: str, weight: ScaledWeight, rank: int) -> ScaledWeight:
    """What a rank has of a layer's matrix [n, k] from `quantized_layer.matrices`, padded to the plan's shape."""
    rows, columns = places(plan, name, rank)
    return ScaledWeight(_take(_take(weight.values, rows, 0), columns, 1), _take(weight.scale, rows, 0))


def places(plan: Plan, name: str, rank: int) -> tuple[Places, Places]:
    """Of which row of the whole matrix each row of the rank's is, and of which column each column; or `NOWHERE`."""
    config, sharding, hidden = plan.config, plan.sharding, np.arange(plan.config.hidden_size)
    q_heads = _heads(sharding.q_heads(rank), config.head_dim)
    kv_heads = _heads(sharding.kv_heads(rank), config.head_dim)
    columns = sharding.columns(rank)
    inner = _filled(np.arange(columns.start, columns.stop), plan.intermediate)
    if name == "qkv":
        rows = np.concatenate(
            [q_heads, _from(config.q_size, kv_heads), _from(config.q_size + config.kv_size, kv_heads)]
        )
        return _filled(rows, plan.linears[name].n), hidden
    if name == "gate_up":
        rows = np.concatenate([inner, _from(plan.whole.intermediate, inner)])
        return _filled(rows, plan.linears[name].n), hidden
    return hidden, {"o": q_heads, "down": inner}[name]


def _heads(heads: Iterable[int | None], size: int) -> Places:
    return np.concatenate([np.full(size, NOWHERE) if h is None else np.arange(h * size, (h + 1) * size) for h in heads])


def _from(start: int, rows: Places) -> Places:
    """The same rows of what begins at row `start`."""
    return np.where(rows == NOWHERE, NOWHERE, start + rows)


def _filled(rows: Places, size: int) -> Places:
    return np.pad(rows, (0, size - len(rows)), constant_values=NOWHERE)


def _take(array: NDArray[Number], places: Places, axis: int) -> NDArray[Number]:
    if np.array_equal(places, np.arange(array.shape[axis])):
        return array
    taken = np.take(array, places, axis)
    taken[(slice(None),) * axis + (places == NOWHERE,)] = 0
    return taken
