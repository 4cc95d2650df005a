"""What the kernels of linear layers share: their arguments, rows taken by register tiles, and the output."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

from tvm.script import tirx as T

from ilmari.kernels.form import Form
from ilmari.kernels.plan import LinearShape
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


@T.inline
def store(lanes, add, i, columns, value, Y):
    """Y[i, columns:columns + lanes] (+)= value."""
    if add:
        Y[i, T.ramp(columns, 1, lanes)] = Y[i, T.ramp(columns, 1, lanes)] + value
    else:
        Y[i, T.ramp(columns, 1, lanes)] = value
