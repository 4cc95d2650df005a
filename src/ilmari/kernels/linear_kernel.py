"""What the kernels of linear layers share: their arguments, rows taken by register tiles, and the output."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

from tvm.script import tirx as T

from ilmari.kernels.form import Form
from ilmari.kernels.isa import Isa
from ilmari.kernels.plan import LinearShape
from ilmari.kernels.prefetch import LINE, prefetch
from ilmari.kernels.scheme import storage
from ilmari.kernels.stealing import in_parallel, with_stealing

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc


def integer_kernel(form: Form, shape: LinearShape, multiply: Any) -> PrimFunc:
    """Y[m, n] (+)= X[m, k] @ W.T, X in an integer form, W as bytes (see `packing`), channel_scale [n] and Y float32.

    Inline multiply(m, nb, X, correction, scale, W, channel_scale, Y): all rows' outputs of block nb of the channels.
    """
    n, k, block = shape.n, shape.k, shape.block
    values, corrections, scales = form.parts
    each = in_parallel(n // block, multiply)

    @T.prim_func
    def kernel(
        x: T.handle,
        c: T.handle,
        s: T.handle,
        W: T.Buffer(shape.packed, "uint8"),
        channel_scale: T.Buffer((n,), "float32"),
        y: T.handle,
    ):
        m = T.int32()
        X = T.match_buffer(x, (m, values.columns(k)), values.dtype)
        correction = T.match_buffer(c, (m, corrections.columns(k)), corrections.dtype)
        scale = T.match_buffer(s, (m, scales.columns(k)), scales.dtype)
        Y = T.match_buffer(y, (m, n), "float32")
        each(m, X, correction, scale, W, channel_scale, Y)

    return with_stealing(kernel)


def float_kernel(form: Form, shape: LinearShape, dtype: str, multiply: Any) -> PrimFunc:
    """Y[m, n] (+)= X[m, k] @ W.T, X in a float form, W of `dtype` [n/block, k, block], channel_scale [n] and Y float32.

    Inline multiply(m, nb, X, W, channel_scale, Y): all rows' outputs of block nb of the channels.
    """
    n, k, block = shape.n, shape.k, shape.block
    (values,) = form.parts
    each = in_parallel(n // block, multiply)

    @T.prim_func
    def kernel(
        x: T.handle,
        W: T.Buffer((n // block, k, block), storage(dtype)),
        channel_scale: T.Buffer((n,), "float32"),
        y: T.handle,
    ):
        m = T.int32()
        X = T.match_buffer(x, (m, k), values.dtype)
        Y = T.match_buffer(y, (m, n), "float32")
        each(m, X, W, channel_scale, Y)

    return with_stealing(kernel)


def by_tiles(most: int, tile: Any) -> Any:
    """Inline each(rows, *operands): tile(most, first, *operands) as often as it fits, and one tile for the rest."""

    @T.inline
    def whole(rows, *operands):
        for t in T.serial(rows // most):
            tile(most, t * most, *operands)

    def then(before: Any, rest: int) -> Any:
        @T.inline
        def each(rows, *operands):
            before(rows, *operands)
            if rows % most == rest:
                tile(rest, rows - rest, *operands)

        return each

    return reduce(then, range(most - 1, 0, -1), whole)


FETCHERS = 4
"""Register tiles, the last of a block of channels, that ask for the next weights."""

FETCHING = 3
"""Tiles of a step from which on they do: with fewer, most of the time goes into reading as it is."""


def weights_ahead(isa: Isa, block: int, most: int, inputs: int) -> Any:
    """Inline fetch(m, first, nb, start, rows, turn, W): a tile's share of the packed rows [start, start + rows) of W.

    `turn` is that of the tile's loop, which takes so many inputs at once.

    The weights of a block come from memory with its first rows of m and are in cache for the others. So that neither
    memory nor arithmetic waits for the other, the last whole tiles of `most` rows ask for the weights that come next;
    asked for sooner, they would be gone from the cache again.
    """
    row_lines = max(1, block * isa.dot_step // LINE)
    turn_bytes = inputs * block
    share, pause = max(1, turn_bytes // LINE // FETCHERS), max(1, FETCHERS * LINE // turn_bytes)  # lines, turns

    @T.inline
    def fetch(m, first, nb, start, rows, turn, W):
        tile: T.let = m // most - 1 - first // most
        if (m >= FETCHING * most) & (tile >= 0) & (tile < FETCHERS) & (turn % pause == 0):
            for part in T.unroll(share):
                line: T.let = turn // pause * share + part
                row: T.let = start + tile * (rows // FETCHERS) + line // row_lines
                T.evaluate(prefetch(W, nb, row, line % row_lines * LINE, level=isa.prefetch_level))

    return fetch


@T.inline
def store(lanes, add, i, columns, value, Y):
    """Y[i, columns:columns + lanes] (+)= value."""
    if add:
        Y[i, T.ramp(columns, 1, lanes)] = Y[i, T.ramp(columns, 1, lanes)] + value
    else:
        Y[i, T.ramp(columns, 1, lanes)] = value
