"""Attention of single tokens over long contexts: the keys and values are read once, at the memory's speed.

The context is cut into segments, each with a softmax of its own, so that there is work for all threads however few
sequences there are; then the segments' results are merged (Dao et al., Flash-Decoding, 2023). The query heads of a KV
head are the rows of two small matrix products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm.script import tirx as T

from ilmari.kernels.attention_tiles import SEGMENT
from ilmari.kernels.decode_float32 import decode_float32
from ilmari.kernels.decode_int16 import decode_int16
from ilmari.kernels.decode_products import tile_of
from ilmari.kernels.isa import Isa, fma
from ilmari.kernels.kv_layout import BLOCK_SIZE, key_shape, value_shape
from ilmari.kernels.numeric import MASKED, exp_nonpositive, lane_max, lane_sum

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc

PARALLEL_MERGE = 64
"""Partial results below which one thread merges them: waking the others costs more than it saves."""


def attention_decode(isa: Isa, heads: int, kv_heads: int, head_dim: int, kv_dtype: str) -> PrimFunc:
    """Y[row[t]] = softmax(Q[row[t]] K^T) V for each token t, which sees its sequence up to its own position.

    Q, K, V, table and Y as in `attention_prefill`. Token t's segments are `bounds[t]` to `bounds[t + 1]`, int32
    [tokens + 1]. A segment is the keys from `start` to before `stop`, at most SEGMENT, of sequence `owner`, for the
    token in row `row` of Q and Y; all int32 [segments], `start` a multiple of 16.
    """
    lanes = isa.lanes
    group = heads // kv_heads
    tile = tile_of(isa, group, head_dim)
    rows, key_vectors, value_vectors = tile.rows, tile.key_vectors, tile.value_vectors
    products = decode_int16 if kv_dtype == "int8" and isa.word_dot else decode_float32
    how = products(isa, kv_dtype, kv_heads, group, head_dim)
    kept = group if how.integers else 1
    take_query, score, weigh, mix = how.take_query, how.score, how.weigh, how.mix

    @T.inline
    def soften(r, keys, P, largest, total):
        """P[r] = exp(P[r] - max) where there is a key; the row's maximum and sum."""
        part = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        vectors: T.let = (keys + lanes - 1) // lanes
        tail: T.let = (vectors - 1) * lanes
        P[r, T.ramp(tail, 1, lanes)] = T.Select(
            T.ramp(tail, 1, lanes) < T.broadcast(keys, lanes),
            P[r, T.ramp(tail, 1, lanes)],
            T.broadcast(T.float32(MASKED), lanes),
        )
        part[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(MASKED), lanes)
        for j in T.serial(vectors):
            part[T.ramp(0, 1, lanes)] = T.max(part[T.ramp(0, 1, lanes)], P[r, T.ramp(j * lanes, 1, lanes)])
        peak: T.let = lane_max(part, lanes)
        part[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for j in T.serial(vectors):
            weight: T.let = exp_nonpositive(isa, P[r, T.ramp(j * lanes, 1, lanes)] - T.broadcast(peak, lanes))
            P[r, T.ramp(j * lanes, 1, lanes)] = weight
            part[T.ramp(0, 1, lanes)] = part[T.ramp(0, 1, lanes)] + weight
        largest[r] = peak
        total[r] = lane_sum(part, range(lanes))

    @T.inline
    def merge(t, head, bounds, row, largest, total, partial, Y):
        """Y[row] = the segments' results, each weighted by its sum at the scale of the largest maximum."""
        state = T.alloc_buffer((2,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        state[0] = T.float32(MASKED)
        for s in T.serial(bounds[t], bounds[t + 1]):
            state[0] = T.max(state[0], largest[s, head])
        state[1] = T.float32(0)
        for s in T.serial(bounds[t], bounds[t + 1]):
            scale: T.let = exp_nonpositive(isa, T.broadcast(largest[s, head] - state[0], lanes))
            largest[s, head] = T.Shuffle([scale], [0])
            state[1] = state[1] + largest[s, head] * total[s, head]
        acc = T.alloc_buffer((head_dim,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        for j in T.unroll(head_dim // lanes):
            acc[T.ramp(j * lanes, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for s in T.serial(bounds[t], bounds[t + 1]):
            for j in T.unroll(head_dim // lanes):
                acc[T.ramp(j * lanes, 1, lanes)] = fma(
                    isa,
                    partial[s, head, T.ramp(j * lanes, 1, lanes)],
                    T.broadcast(largest[s, head], lanes),
                    acc[T.ramp(j * lanes, 1, lanes)],
                )
        for j in T.unroll(head_dim // lanes):
            Y[row[bounds[t]], T.ramp(head * head_dim + j * lanes, 1, lanes)] = acc[
                T.ramp(j * lanes, 1, lanes)
            ] / T.broadcast(state[1], lanes)

    @T.prim_func
    def kernel(
        q: T.handle,
        k: T.handle,
        v: T.handle,
        table_: T.handle,
        bounds_: T.handle,
        row_: T.handle,
        owner_: T.handle,
        start_: T.handle,
        stop_: T.handle,
        y: T.handle,
    ):
        m = T.int32()
        cache_blocks = T.int32()
        sequences = T.int32()
        max_blocks = T.int32()
        ends = T.int32()
        segments = T.int32()
        Q = T.match_buffer(q, (m, heads * head_dim), "float32")
        K = T.match_buffer(k, key_shape(kv_dtype, cache_blocks, kv_heads, head_dim), kv_dtype)
        V = T.match_buffer(v, value_shape(kv_dtype, cache_blocks, kv_heads, head_dim), kv_dtype)
        table = T.match_buffer(table_, (sequences, max_blocks), "int32")
        bounds = T.match_buffer(bounds_, (ends,), "int32")
        row = T.match_buffer(row_, (segments,), "int32")
        owner = T.match_buffer(owner_, (segments,), "int32")
        start = T.match_buffer(start_, (segments,), "int32")
        stop = T.match_buffer(stop_, (segments,), "int32")
        Y = T.match_buffer(y, (m, heads * head_dim), "float32")
        partial = T.alloc_buffer((segments, heads, head_dim), "float32")
        largest = T.alloc_buffer((segments, heads), "float32")
        total = T.alloc_buffer((segments, heads), "float32")
        for task in T.parallel(segments * kv_heads):
            queries = T.alloc_buffer((kept, head_dim), "int16")
            query_scale = T.alloc_buffer((kept,), "float32")
            weights = T.alloc_buffer((kept, SEGMENT), "int16")
            weight_scale = T.alloc_buffer((kept,), "float32")
            P = T.alloc_buffer((group, SEGMENT), "float32")
            largest_ = T.alloc_buffer((group,), "float32")
            total_ = T.alloc_buffer((group,), "float32")
            s: T.let = task // kv_heads
            h: T.let = task % kv_heads
            keys: T.let = stop[s] - start[s]
            first: T.let = start[s] // BLOCK_SIZE
            last: T.let = (stop[s] - 1) // BLOCK_SIZE
            for r in T.serial(group):
                take_query(r, row[s], h, Q, queries, query_scale)
            for i in T.serial((keys + key_vectors * lanes - 1) // (key_vectors * lanes)):
                at: T.let = i * key_vectors
                for r in T.serial(group // rows):
                    score(r * rows, at, h, row[s], owner[s], first, last, table, Q, queries, query_scale, K, V, P)
            for r in T.serial(group):
                soften(r, keys, P, largest_, total_)
                largest[s, h * group + r] = largest_[r]
                total[s, h * group + r] = total_[r]
                weigh(r, keys, h, owner[s], first, last, table, V, P, weights, weight_scale)
            for j in T.serial(head_dim // lanes // value_vectors):
                at: T.let = j * value_vectors
                for r in T.serial(group // rows):
                    if how.integers:
                        mix(
                            r * rows, at, h, s, keys, owner[s], first, last, table, K, V, weights, weight_scale, partial
                        )
                    else:
                        mix(r * rows, at, h, s, keys, owner[s], first, last, table, K, V, P, weight_scale, partial)
        if segments * heads < PARALLEL_MERGE:
            for task in T.serial((ends - 1) * heads):
                merge(task // heads, task % heads, bounds, row, largest, total, partial, Y)
        else:
            for task in T.parallel((ends - 1) * heads):
                merge(task // heads, task % heads, bounds, row, largest, total, partial, Y)

    return kernel
