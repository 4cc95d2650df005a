"""The integer inputs of linear layers: a row is computed in float32, in cache, and stored in a form's order.

What is computed is fused with what is stored, so activations between the two are never written to memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm.script import tirx as T

from ilmari.kernels.form import GROUPS, HALVES, PAIRS, Form
from ilmari.kernels.isa import Isa
from ilmari.kernels.quantize_groups import store_groups
from ilmari.kernels.quantize_halves import store_halves
from ilmari.kernels.quantize_pairs import store_pairs
from ilmari.kernels.rmsnorm import norm_row
from ilmari.kernels.schedule import PARALLEL_ROWS
from ilmari.kernels.silu_multiply import silu_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from tvm.tirx import PrimFunc

STORES: dict[Form, Callable[[Isa, int], Any]] = {HALVES: store_halves, PAIRS: store_pairs, GROUPS: store_groups}


def quantize(isa: Isa, form: Form, k: int) -> PrimFunc:
    """X [m, k] float32 in `form`."""
    lanes = isa.lanes

    @T.inline
    def copy(i, X, o, Y):
        for j in T.serial(k // lanes):
            Y[o, T.ramp(j * lanes, 1, lanes)] = X[i, T.ramp(j * lanes, 1, lanes)]

    return _kernel(form, k, k, copy, STORES[form](isa, k))


def silu_quantize(isa: Isa, form: Form, k: int, stride: int) -> PrimFunc:
    """SiLU(X[:, :k]) * X[:, k:2k] in `form`; X is [m, stride] float32."""
    return _kernel(form, k, stride, silu_row(isa, k), STORES[form](isa, k))


def norm_quantize(isa: Isa, form: Form, k: int, eps: float) -> PrimFunc:
    """RMSNorm(X) * weight in `form`; X is [m, k] float32, weight [k] float32."""
    values, corrections, scales = form.parts
    norm, store = norm_row(isa, k, eps), STORES[form](isa, k)

    @T.inline
    def row(i, X, weight, Q, correction, scale):
        normed = T.alloc_buffer((1, k), "float32")
        norm(i, X, weight, 0, normed)
        store(i, normed, Q, correction, scale)

    @T.prim_func
    def kernel(x: T.handle, weight: T.Buffer((k,), "float32"), q: T.handle, c: T.handle, s: T.handle):
        m = T.int32()
        X = T.match_buffer(x, (m, k), "float32")
        Q = T.match_buffer(q, (m, values.columns(k)), values.dtype)
        correction = T.match_buffer(c, (m, corrections.columns(k)), corrections.dtype)
        scale = T.match_buffer(s, (m, scales.columns(k)), scales.dtype)
        if m < PARALLEL_ROWS:
            for i in T.serial(m):
                row(i, X, weight, Q, correction, scale)
        else:
            for i in T.parallel(m):
                row(i, X, weight, Q, correction, scale)

    return kernel


def _kernel(form: Form, k: int, stride: int, compute: Any, store: Any) -> PrimFunc:
    values, corrections, scales = form.parts

    @T.inline
    def row(i, X, Q, correction, scale):
        computed = T.alloc_buffer((1, k), "float32")
        compute(i, X, 0, computed)
        store(i, computed, Q, correction, scale)

    @T.prim_func
    def kernel(x: T.handle, q: T.handle, c: T.handle, s: T.handle):
        m = T.int32()
        X = T.match_buffer(x, (m, stride), "float32")
        Q = T.match_buffer(q, (m, values.columns(k)), values.dtype)
        correction = T.match_buffer(c, (m, corrections.columns(k)), corrections.dtype)
        scale = T.match_buffer(s, (m, scales.columns(k)), scales.dtype)
        if m < PARALLEL_ROWS:
            for i in T.serial(m):
                row(i, X, Q, correction, scale)
        else:
            for i in T.parallel(m):
                row(i, X, Q, correction, scale)

    return kernel
