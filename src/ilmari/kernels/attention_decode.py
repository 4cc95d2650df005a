"""Attention of single tokens over long contexts: the keys and values are read once, at the memory's speed.

The context is cut into segments, each with a softmax of its own, so that there is work for all threads however few
sequences there are; then the segments' results are merged (Dao et al., Flash-Decoding, 2023). The query heads of a KV
head are the rows of two small matrix products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm.script import tirx as T

from ilmari.kernels.attention_tiles import SEGMENT
from ilmari.kernels.isa import Isa, fma
from ilmari.kernels.kv_layout import BLOCK_SIZE, key_shape, value_shape
from ilmari.kernels.kv_prefetch import LINE, prefetch
from ilmari.kernels.numeric import MASKED, exp_nonpositive, lane_max, lane_sum, widen

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc

AHEAD = 8
"""Blocks between what is read and what is asked of the memory, whose own guesses end at each block."""

PARALLEL_MERGE = 64
"""Partial results below which one thread merges them: waking the others costs more than it saves."""


def attention_decode(isa: Isa, heads: int, kv_heads: int, head_dim: int) -> PrimFunc:
    """Y[row[t]] = softmax(Q[row[t]] K^T) V for each token t, which sees its sequence up to its own position.

    Q, K, V, table and Y as in `attention_prefill`. Token t's segments are `bounds[t]` to `bounds[t + 1]`, int32
    [tokens + 1]. A segment is the keys from `start` to before `stop`, at most SEGMENT, of sequence `owner`, for the
    token in row `row` of Q and Y; all int32 [segments], `start` a multiple of 16.
    """
    lanes = isa.lanes
    group = heads // kv_heads
    accumulators = 16 if lanes == 16 else 8  # of 32 registers, or of 16
    rows = _largest_divisor(group, accumulators)
    key_vectors = _power_of_two(accumulators // rows)
    key_blocks = max(1, key_vectors * lanes // BLOCK_SIZE)
    value_vectors = _largest_divisor(head_dim // lanes, accumulators // rows)
    lines = head_dim * BLOCK_SIZE // LINE

    @T.inline
    def fetch(index, line, h, next_h, owner, first, last, table, now, then):
        """Ask for a cache line that is read AHEAD blocks after `index`: of `now`, and past the last block of `then`."""
        ahead: T.let = index + AHEAD
        if ahead <= last:
            block: T.let = T.cast(table[owner, ahead], "int64")
            T.evaluate(prefetch(now, block, h, line))
        else:
            block: T.let = T.cast(table[owner, T.min(first + ahead - last - 1, last)], "int64")
            T.evaluate(prefetch(then, block, next_h, line))

    @T.inline
    def score(row0, at, h, row, owner, first, last, table, Q, K, V, P):
        """P[row, at:] = Q K^T for some rows and vectors of keys."""
        acc = T.alloc_buffer(
            (rows * key_vectors * lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True}
        )
        for t in T.unroll(rows * key_vectors):
            acc[T.ramp(t * lanes, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for line in T.serial(lines):
            for j in T.unroll(key_blocks):
                index: T.let = first + at * lanes // BLOCK_SIZE + (line * key_blocks + j) // lines
                fetch(index, (line * key_blocks + j) % lines, h, h, owner, first, last, table, K, V)
            for step in T.unroll(LINE // BLOCK_SIZE):
                d: T.let = line * (LINE // BLOCK_SIZE) + step
                for j in T.unroll(key_vectors):
                    # Keys past the end are those of the last block once more: masked later.
                    index: T.let = T.min(first + (at + j) * lanes // BLOCK_SIZE, last)
                    block: T.let = T.cast(table[owner, index], "int64")
                    key: T.let = widen(isa, K[block, h, d, T.ramp((at + j) * lanes % BLOCK_SIZE, 1, lanes)], "float16")
                    for r in T.unroll(rows):
                        acc[T.ramp((r * key_vectors + j) * lanes, 1, lanes)] = fma(
                            isa,
                            key,
                            T.broadcast(Q[row, (h * group + row0 + r) * head_dim + d], lanes),
                            acc[T.ramp((r * key_vectors + j) * lanes, 1, lanes)],
                        )
        for r in T.unroll(rows):
            for j in T.unroll(key_vectors):
                P[row0 + r, T.ramp((at + j) * lanes, 1, lanes)] = acc[T.ramp((r * key_vectors + j) * lanes, 1, lanes)]

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
    def mix(row0, at, h, s, keys, owner, first, last, table, K, V, P, partial):
        """partial[s, head, at:] = P V for some rows and vectors of features."""
        acc = T.alloc_buffer(
            (rows * value_vectors * lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True}
        )
        for t in T.unroll(rows * value_vectors):
            acc[T.ramp(t * lanes, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for b in T.serial((keys + BLOCK_SIZE - 1) // BLOCK_SIZE):
            block: T.let = T.cast(table[owner, first + b], "int64")
            for i in T.serial(T.min(BLOCK_SIZE, keys - b * BLOCK_SIZE)):
                for line in T.unroll(head_dim // LINE):
                    at_line: T.let = i * (head_dim // LINE) + line
                    fetch(first + b, at_line, h, (h + 1) % kv_heads, owner, first, last, table, V, K)
                for j in T.unroll(value_vectors):
                    value: T.let = widen(isa, V[block, h, i, T.ramp((at + j) * lanes, 1, lanes)], "float16")
                    for r in T.unroll(rows):
                        acc[T.ramp((r * value_vectors + j) * lanes, 1, lanes)] = fma(
                            isa,
                            value,
                            T.broadcast(P[row0 + r, b * BLOCK_SIZE + i], lanes),
                            acc[T.ramp((r * value_vectors + j) * lanes, 1, lanes)],
                        )
        for r in T.unroll(rows):
            for j in T.unroll(value_vectors):
                partial[s, h * group + row0 + r, T.ramp((at + j) * lanes, 1, lanes)] = acc[
                    T.ramp((r * value_vectors + j) * lanes, 1, lanes)
                ]

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
        K = T.match_buffer(k, key_shape(cache_blocks, kv_heads, head_dim), "float16")
        V = T.match_buffer(v, value_shape(cache_blocks, kv_heads, head_dim), "float16")
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
            P = T.alloc_buffer((group, SEGMENT), "float32")
            largest_ = T.alloc_buffer((group,), "float32")
            total_ = T.alloc_buffer((group,), "float32")
            s: T.let = task // kv_heads
            h: T.let = task % kv_heads
            keys: T.let = stop[s] - start[s]
            first: T.let = start[s] // BLOCK_SIZE
            last: T.let = (stop[s] - 1) // BLOCK_SIZE
            for i in T.serial((keys + key_vectors * lanes - 1) // (key_vectors * lanes)):
                for r in T.serial(group // rows):
                    score(r * rows, i * key_vectors, h, row[s], owner[s], first, last, table, Q, K, V, P)
            for r in T.serial(group):
                soften(r, keys, P, largest_, total_)
                largest[s, h * group + r] = largest_[r]
                total[s, h * group + r] = total_[r]
            for j in T.serial(head_dim // lanes // value_vectors):
                for r in T.serial(group // rows):
                    mix(r * rows, j * value_vectors, h, s, keys, owner[s], first, last, table, K, V, P, partial)
        if segments * heads < PARALLEL_MERGE:
            for task in T.serial((ends - 1) * heads):
                merge(task // heads, task % heads, bounds, row, largest, total, partial, Y)
        else:
            for task in T.parallel((ends - 1) * heads):
                merge(task // heads, task % heads, bounds, row, largest, total, partial, Y)

    return kernel


def _largest_divisor(n: int, limit: int) -> int:
    """The largest divisor of n up to a limit."""
    return max(divisor for divisor in range(1, limit + 1) if n % divisor == 0)


def _power_of_two(n: int) -> int:
    """The largest power of two up to n."""
    return 1 << n.bit_length() - 1
