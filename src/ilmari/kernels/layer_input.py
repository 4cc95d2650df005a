"""What linear layers read: a row is computed in float32, in cache, and stored in a form.

What is computed is fused with what is stored, so activations between the two are never written to memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tvm.script import tirx as T

from ilmari.kernels.form import GROUPS, HALVES, PAIRS, WORDS, Form
from ilmari.kernels.isa import Isa
from ilmari.kernels.numeric import narrow
from ilmari.kernels.quantize_groups import store_groups
from ilmari.kernels.quantize_halves import store_halves
from ilmari.kernels.quantize_pairs import store_pairs, store_words
from ilmari.kernels.rmsnorm import norm_row
from ilmari.kernels.schedule import each_row
from ilmari.kernels.silu_multiply import silu_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from tvm.tirx import PrimFunc

STORES: dict[Form, Callable[[Isa, int], Any]] = {
    HALVES: store_halves,
    PAIRS: store_pairs,
    WORDS: store_words,
    GROUPS: store_groups,
}
"""How a row becomes integers. Float forms are stored as they are computed, in their dtype."""


def norm(isa: Isa, form: Form, k: int, eps: float) -> PrimFunc:
    """X / sqrt(mean(X**2) + eps) * weight in `form`; X is [m, k], weight [k], float32."""
    return _kernel(isa, form, k, k, norm_row(isa, k, eps, _dtype(form)), weighted=True)


def silu(isa: Isa, form: Form, k: int, stride: int) -> PrimFunc:
    """g / (1 + exp(-g)) * u in `form`, with g = X[:, :k] and u = X[:, k:2k]; X is [m, stride], float32."""
    return _kernel(isa, form, k, stride, silu_row(isa, k, _dtype(form)))


def copy(isa: Isa, form: Form, k: int) -> PrimFunc:
    """X in `form`; X is [m, k], float32."""
    lanes, dtype = isa.lanes, _dtype(form)

    @T.inline
    def row(i, X, o, Y):
        for j in T.serial(k // lanes):
            Y[o, T.ramp(j * lanes, 1, lanes)] = narrow(isa, X[i, T.ramp(j * lanes, 1, lanes)], dtype)

    return _kernel(isa, form, k, k, row)


def _dtype(form: Form) -> str:
    """What a row is computed to."""
    return "float32" if form in STORES else form.name


def _kernel(isa: Isa, form: Form, k: int, stride: int, compute: Any, weighted: bool = False) -> PrimFunc:
    """X [m, stride] and, if `weighted`, weight [k] to the arrays of `form`.

    Inline compute(i, X, [weight,] o, Y): row o of Y, of `_dtype(form)`, is computed of row i of X.
    """
    values, *others = form.parts
    store = STORES[form](isa, k) if others else None

    @T.inline
    def computed(i, X, weight, o, Y):
        if weighted:
            compute(i, X, weight, o, Y)
        else:
            compute(i, X, o, Y)

    @T.inline
    def row(i, X, weight, *parts):
        if store is None:
            computed(i, X, weight, i, *parts)
        else:
            exact = T.alloc_buffer((1, k), "float32")
            computed(i, X, weight, 0, exact)
            store(i, exact, *parts)

    @T.jit
    def kernel(
        x: T.handle,
        weight: T.Optional(T.Buffer((k,), "float32")),
        q: T.handle,
        c: T.Optional(T.handle),
        s: T.Optional(T.handle),
    ):
        m = T.int32()
        X = T.match_buffer(x, (m, stride), "float32")
        Q = T.match_buffer(q, (m, values.columns(k)), values.dtype)
        if store is None:
            each_row(m, row, X, weight, Q)
        else:
            correction = T.match_buffer(c, (m, others[0].columns(k)), others[0].dtype)
            scale = T.match_buffer(s, (m, others[1].columns(k)), others[1].dtype)
            each_row(m, row, X, weight, Q, correction, scale)

    absent = [*([] if weighted else ["weight"]), *([] if others else ["c", "s"])]
    return kernel.specialize(**dict.fromkeys(absent))


def bfloat16_reference(x: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of x in bfloat16: of the two neighbours, the nearer; of two equally near, the even one."""
    below = x.view(np.uint32) >> 16
    neighbours = np.stack([below, below + 1])
    distances = np.abs((neighbours << 16).view(np.float32).astype(np.float64) - x)
    up = (distances[1] < distances[0]) | ((distances[1] == distances[0]) & (below % 2 == 1))
    return np.where(up, neighbours[1], below).astype(np.uint16)
