"""Rotary embedding of queries and keys (rotate-half form), and the new keys and values into the paged cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tvm.script import tirx as T

from ilmari.kernels.isa import Isa, fma
from ilmari.kernels.kv_layout import BLOCK_SIZE, key_shape, value_shape
from ilmari.kernels.kv_write import stores
from ilmari.kernels.schedule import PARALLEL_ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tvm.tirx import PrimFunc


def rope_append(isa: Isa, heads: int, kv_heads: int, head_dim: int, stride: int, kv_dtype: str) -> PrimFunc:
    """Rotates q and k of each row, scales q by 1/sqrt(head_dim), and stores k and v at the row's slot.

    X is [m, stride] float32: q heads, k heads, v heads, then padding. cos and sin are [m, head_dim/2] float32.
    slots [m] int32 is block * 16 + offset. Q is [m, heads * head_dim] float32. K and V are of `kv_dtype` and as
    in `kv_layout`.
    """
    lanes, half = isa.lanes, head_dim // 2
    q_scale = 1.0 / float(np.sqrt(head_dim))
    k_start, v_start = heads * head_dim, (heads + kv_heads) * head_dim
    how = stores(isa, kv_dtype, head_dim)
    store_key, store_value = how.store_key, how.store_value

    @T.inline
    def row(i, X, cos, sin, slots, Q, K, V):
        key = T.alloc_buffer((1, head_dim), "float32")
        block: T.let = T.cast(slots[i] // BLOCK_SIZE, "int64")  # a large cache has more than 2**31 elements
        offset: T.let = slots[i] % BLOCK_SIZE
        for h in T.serial(heads):
            for j in T.serial(half // lanes):
                a: T.let = X[i, T.ramp(h * head_dim + j * lanes, 1, lanes)]
                b: T.let = X[i, T.ramp(h * head_dim + half + j * lanes, 1, lanes)]
                c: T.let = cos[i, T.ramp(j * lanes, 1, lanes)] * T.broadcast(T.float32(q_scale), lanes)
                s: T.let = sin[i, T.ramp(j * lanes, 1, lanes)] * T.broadcast(T.float32(q_scale), lanes)
                Q[i, T.ramp(h * head_dim + j * lanes, 1, lanes)] = fma(isa, a, c, -(b * s))
                Q[i, T.ramp(h * head_dim + half + j * lanes, 1, lanes)] = fma(isa, b, c, a * s)
        for h in T.serial(kv_heads):
            for j in T.serial(half // lanes):
                a: T.let = X[i, T.ramp(k_start + h * head_dim + j * lanes, 1, lanes)]
                b: T.let = X[i, T.ramp(k_start + h * head_dim + half + j * lanes, 1, lanes)]
                c: T.let = cos[i, T.ramp(j * lanes, 1, lanes)]
                s: T.let = sin[i, T.ramp(j * lanes, 1, lanes)]
                key[0, T.ramp(j * lanes, 1, lanes)] = fma(isa, a, c, -(b * s))
                key[0, T.ramp(half + j * lanes, 1, lanes)] = fma(isa, b, c, a * s)
            store_key(block, h, offset, 0, 0, key, K)
            store_value(block, h, offset, i, v_start + h * head_dim, X, V)

    @T.prim_func
    def kernel(x: T.handle, cos_: T.handle, sin_: T.handle, slots_: T.handle, q: T.handle, k: T.handle, v: T.handle):
        m = T.int32()
        blocks = T.int32()
        X = T.match_buffer(x, (m, stride), "float32")
        cos = T.match_buffer(cos_, (m, half), "float32")
        sin = T.match_buffer(sin_, (m, half), "float32")
        slots = T.match_buffer(slots_, (m,), "int32")
        Q = T.match_buffer(q, (m, heads * head_dim), "float32")
        K = T.match_buffer(k, key_shape(kv_dtype, blocks, kv_heads, head_dim), kv_dtype)
        V = T.match_buffer(v, value_shape(kv_dtype, blocks, kv_heads, head_dim), kv_dtype)
        if m < PARALLEL_ROWS:
            for i in T.serial(m):
                row(i, X, cos, sin, slots, Q, K, V)
        else:
            for i in T.parallel(m):
                row(i, X, cos, sin, slots, Q, K, V)

    return kernel


def rope_reference(x: NDArray[np.float32], cos: NDArray[np.float32], sin: NDArray[np.float32]) -> NDArray[np.float64]:
    """x [m, heads, head_dim] rotated by the angles of cos and sin [m, head_dim/2]."""
    a, b = np.split(x.astype(np.float64), 2, axis=-1)
    c, s = cos[:, None, :].astype(np.float64), sin[:, None, :].astype(np.float64)
    return np.concatenate([a * c - b * s, b * c + a * s], axis=-1)
