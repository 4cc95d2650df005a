"""The feed-forward block's first half in one pass: gate and up projections, SiLU(gate) * up, and its quantization.

The numbers of a group of inputs of the next layer are computed by one thread, and never leave its cache as floats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm.script import tirx as T

from ilmari.kernels.as_written import with_loops_as_written
from ilmari.kernels.form import GROUP, GROUPS, groups
from ilmari.kernels.isa import Isa
from ilmari.kernels.linear_groups import block_product
from ilmari.kernels.plan import LinearShape
from ilmari.kernels.quantize_groups import store_group
from ilmari.kernels.silu_multiply import gated
from ilmari.kernels.stealing import in_parallel, with_stealing

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc

BATCH = 64  # tokens whose gates and ups for a group of channels stay in cache


def gated_groups(isa: Isa, shape: LinearShape) -> PrimFunc:
    """silu(Y[:, :n/2]) * Y[:, n/2:] in the form `groups`, with Y [m, n] what `linear_groups` computes.

    X, correction and scale are the form `groups` too; W and channel_scale as for `linear_groups`, without residual.
    """
    lanes, block, k, inner = isa.lanes, shape.block, shape.k, shape.n // 2
    values, corrections, scales = GROUPS.parts
    product, store = block_product(isa, shape), store_group(isa, inner)

    @T.inline
    def multiply(m, group, X, correction, scale, W, channel_scale, Q, next_correction, next_scale):
        gates = T.alloc_buffer((BATCH, GROUP), "float32")
        ups = T.alloc_buffer((BATCH, GROUP), "float32")
        width: T.let = T.min(GROUP, inner - group * GROUP)
        for batch in T.serial((m + BATCH - 1) // BATCH):
            first: T.let = batch * BATCH
            count: T.let = T.min(BATCH, m - first)
            for b in T.serial(width // block):
                gate: T.let = group * (GROUP // block) + b
                up: T.let = inner // block + gate
                # The weights of a group stay in cache for all batches; the last rows ask for the next group's.
                after_gate: T.let = T.Select(m > BATCH, gate + GROUP // block, up)
                after_up: T.let = T.Select(m > BATCH, up + GROUP // block, gate + 1)
                product(first, count, gate, after_gate, 0, b * block, X, correction, scale, W, channel_scale, gates)
                product(first, count, up, after_up, 0, b * block, X, correction, scale, W, channel_scale, ups)
            for i in T.serial(count):
                for j in T.serial(width // lanes):
                    gates[i, T.ramp(j * lanes, 1, lanes)] = gated(
                        isa, gates[i, T.ramp(j * lanes, 1, lanes)], ups[i, T.ramp(j * lanes, 1, lanes)]
                    )
            # Apart from the loop above, whose rows then overlap: each of these waits for the largest of a row.
            for i in T.serial(count):
                store(first + i, group, gates, i, 0, Q, next_correction, next_scale)

    each = in_parallel(groups(inner), multiply)

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
        each(m, X, correction, scale, W, channel_scale, Q, next_correction, next_scale)

    return with_loops_as_written(isa, with_stealing(kernel))
