"""The feed-forward block's first half in one pass: gate and up projections, SiLU(gate) * up, and its quantization.

The numbers of a group of inputs of the next layer are computed by one thread, and never leave its cache as floats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm.script import tirx as T

from ilmari.kernels.form import GROUP, GROUPS, groups
from ilmari.kernels.isa import Isa
from ilmari.kernels.linear_groups import BATCH, group_sums
from ilmari.kernels.plan import LinearShape
from ilmari.kernels.quantize_groups import store_group
from ilmari.kernels.silu_multiply import gated

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc


def gated_groups(isa: Isa, shape: LinearShape) -> PrimFunc:
    """silu(Y[:, :n/2]) * Y[:, n/2:] in the form `groups`, with Y [m, n] what `linear_groups` computes.

    X, correction and scale are the form `groups` too; W and channel_scale as for `linear_groups`, without residual.
    """
    lanes, block, k, inner = isa.lanes, shape.block, shape.k, shape.n // 2
    values, corrections, scales = GROUPS.parts
    sum_groups, store = group_sums(isa, shape), store_group(isa, inner)

    @T.inline
    def multiply(m, group, X, correction, scale, W, channel_scale, Q, next_correction, next_scale):
        gate = T.alloc_buffer((BATCH, GROUP), "float32")
        up = T.alloc_buffer((BATCH, GROUP), "float32")
        for batch in T.serial((m + BATCH - 1) // BATCH):
            first: T.let = batch * BATCH
            count: T.let = T.min(BATCH, m - first)
            width: T.let = T.min(GROUP, inner - group * GROUP)
            for b in T.serial(width // block):
                nb: T.let = group * (GROUP // block) + b
                sum_groups(first, count, nb, b * block, X, correction, scale, W, gate)
                sum_groups(first, count, inner // block + nb, b * block, X, correction, scale, W, up)
            for i in T.serial(count):
                for j in T.serial(width // lanes):
                    columns: T.let = group * GROUP + j * lanes
                    g: T.let = gate[i, T.ramp(j * lanes, 1, lanes)] * channel_scale[T.ramp(columns, 1, lanes)]
                    u: T.let = up[i, T.ramp(j * lanes, 1, lanes)] * channel_scale[T.ramp(inner + columns, 1, lanes)]
                    gate[i, T.ramp(j * lanes, 1, lanes)] = gated(isa, g, u)
                store(first + i, group, gate, i, 0, Q, next_correction, next_scale)

    @T.prim_func
    def kernel(
        x: T.handle,
        c: T.handle,
        s: T.handle,
        W: T.Buffer(shape.packed, "uint8"),
        channel_scale: T.Buffer((shape.n,), "float32"),
        q: T.handle,
        next_c: T.handle,
        next_s: T.handle,
    ):
        m = T.int32()
        X = T.match_buffer(x, (m, values.columns(k)), values.dtype)
        correction = T.match_buffer(c, (m, corrections.columns(k)), corrections.dtype)
        scale = T.match_buffer(s, (m, scales.columns(k)), scales.dtype)
        Q = T.match_buffer(q, (m, values.columns(inner)), values.dtype)
        next_correction = T.match_buffer(next_c, (m, corrections.columns(inner)), corrections.dtype)
        next_scale = T.match_buffer(next_s, (m, scales.columns(inner)), scales.dtype)
        for group in T.parallel(groups(inner)):
            multiply(m, group, X, correction, scale, W, channel_scale, Q, next_correction, next_scale)

    return kernel
