"""What decoding attention multiplies for a KV head and its query heads, the rows; how it asks the memory ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from ilmari.kernels.isa import Isa
from ilmari.kernels.prefetch import prefetch_head

AHEAD = 8
"""Blocks between what is read and what is asked of the memory, whose own guesses end at each block."""


@dataclass(frozen=True)
class Tile:
    """A register tile: rows, and the vectors of keys and of features that they meet at a time."""

    rows: int
    key_vectors: int
    value_vectors: int


def tile_of(isa: Isa, group: int, head_dim: int) -> Tile:
    """One whose accumulators leave registers for their operands."""
    accumulators = 16 if isa.lanes == 16 else 8  # of 32 registers, or of 16
    rows = _largest_divisor(group, accumulators)
    key_vectors = _power_of_two(accumulators // rows)
    return Tile(rows, key_vectors, _largest_divisor(head_dim // isa.lanes, accumulators // rows))


@dataclass(frozen=True)
class Products:
    """Inline functions.

    integers: queries [group, head_dim] and weights [group, SEGMENT] are int16, and what is multiplied by them is to be
    multiplied by query_scale and weight_scale [group], float32. Else Q serves for queries and P for weights.
    Keys and values are those of blocks `first` to `last` of sequence `owner`, of KV head h.
    take_query(r, token, h, Q, queries, query_scale): row r of token's.
    score(row0, at, h, token, owner, first, last, table, Q, queries, query_scale, K, V, P): P[row0:, at * lanes:] =
    Q K^T, of a tile.
    weigh(r, keys, h, owner, first, last, table, V, P, weights, weight_scale): what row r multiplies the values by, from
    the softmax in P.
    mix(row0, at, h, s, keys, owner, first, last, table, K, V, weights, weight_scale, partial): partial[s, head,
    at * lanes:] = P V, of a tile.
    """

    integers: bool
    take_query: Any
    score: Any
    weigh: Any
    mix: Any


@T.inline
def fetch(index, line, h, next_h, owner, first, last, table, now, then):
    """Ask for a cache line that is read AHEAD blocks after `index`: of `now`, and past the last block of `then`."""
    ahead: T.let = index + AHEAD
    if ahead <= last:
        block: T.let = T.cast(table[owner, ahead], "int64")
        T.evaluate(prefetch_head(now, block, h, line))
    else:
        block: T.let = T.cast(table[owner, T.min(first + ahead - last - 1, last)], "int64")
        T.evaluate(prefetch_head(then, block, next_h, line))


def _largest_divisor(n: int, limit: int) -> int:
    """The largest divisor of n up to a limit."""
    return max(divisor for divisor in range(1, limit + 1) if n % divisor == 0)


def _power_of_two(n: int) -> int:
    """The largest power of two up to n."""
    return 1 << n.bit_length() - 1
