"""Asking the memory for the weights that a linear layer will read, while it multiplies by others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from ilmari.kernels.isa import Isa
from ilmari.kernels.prefetch import LINE, prefetch

FETCHERS = 4
"""Register tiles, the last of a block of channels, that ask for the next weights."""


@dataclass(frozen=True)
class Ahead:
    """Inline functions with which a register tile asks for weights before they are needed.

    next_rows(m, first, nb, start, rows, turn, W): in a turn of its loop, for its share of the packed rows [start,
    start + rows) of W. The weights of a block come from memory with its first rows of m and are in cache for the
    others. So that neither memory nor arithmetic waits for the other, the last whole tiles ask for the weights that
    come next; asked for sooner, they would be gone from the cache again. They ask in the order of the addresses, which
    the CPU's own prefetching follows, and in which the next block's first tile will want them.
    own_rows(m, first, nb, row, W): in a step of fewer tiles, for those `Isa.lookahead` after packed row `row`, where
    its turn begins. After a block comes the next in memory.
    """

    next_rows: Any
    own_rows: Any


def weights_ahead(isa: Isa, block: int, most: int, inputs: int) -> Ahead:
    """For tiles of `most` rows, and a loop that takes so many inputs at once."""
    row_lines = max(1, block * isa.dot_step // LINE)
    turn_bytes, lookahead = inputs * block, isa.lookahead // LINE
    share, pause = max(1, turn_bytes // LINE // FETCHERS), max(1, FETCHERS * LINE // turn_bytes)  # lines, turns

    @T.inline
    def next_rows(m, first, nb, start, rows, turn, W):
        tile: T.let = first // most - T.max(m // most - FETCHERS, 0)
        if (m >= isa.ahead_tiles * most) & (tile >= 0) & (tile < FETCHERS) & (turn % pause == 0):
            for part in T.unroll(share):
                line: T.let = turn // pause * share + part
                row: T.let = start + tile * (rows // FETCHERS) + line // row_lines
                T.evaluate(prefetch(W, nb, row, line % row_lines * LINE, level=isa.prefetch_level))

    @T.inline
    def own_rows(m, first, nb, row, W):
        if lookahead > 0:  # noqa: SIM102 -- the generator's own condition
            if (m < isa.ahead_tiles * most) & (first == 0):
                for part in T.unroll(turn_bytes // LINE):
                    line: T.let = lookahead + part
                    T.evaluate(
                        prefetch(W, nb, row + line // row_lines, line % row_lines * LINE, level=isa.prefetch_level)
                    )

    return Ahead(next_rows, own_rows)
