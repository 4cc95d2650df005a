"""Causal attention over a paged KV cache: grouped query heads, an online softmax (Milakov and Gimelshein, 2018).

The work is cut into tiles: up to `tokens` consecutive new tokens of one sequence, times the query heads of one KV head,
which are the rows of a small matrix product. Each tile walks the sequence's keys in chunks of 64, whose scores stay in
cache, and reads every key and value once for all its rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tvm.script import tirx as T

from ilmari.kernels.isa import Isa, fma
from ilmari.kernels.kv_layout import BLOCK_SIZE, key_shape, value_shape
from ilmari.kernels.numeric import exp, lane_max, lane_sum, widen

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tvm.tirx import PrimFunc

CHUNK_BLOCKS = 4
CHUNK = CHUNK_BLOCKS * BLOCK_SIZE
MASKED = -1e30  # a score that exp() turns into 0, and that is no infinity to subtract from itself


def attention(isa: Isa, heads: int, kv_heads: int, head_dim: int, tokens: int) -> PrimFunc:
    """Y[m, heads * head_dim] = softmax(Q K^T) V, each token seeing the keys up to its own position.

    Q is [m, heads * head_dim] float32, rotated and scaled; K and V as in `rope_append`; table [sequences, max_blocks]
    int32 holds each sequence's blocks. A tile t is `count[t]` <= tokens rows of Q from `first[t]`, of sequence
    `owner[t]`, the first of them at position `position[t]`; all int32 [tiles].
    """
    lanes = isa.lanes
    group = heads // kv_heads
    rows = tokens * group
    # Rows whose scores for one block of keys fit into registers: 8 of 32, or 4 x 2 and 2 x 4 of 16.
    batch = next(b for b in range(min(rows, lanes // 2), 0, -1) if rows % b == 0)
    key_vectors = BLOCK_SIZE // lanes
    value_vectors = head_dim // lanes

    @T.inline
    def scores(row0, b, block, h, first, last, Q, K, P):
        """P[row0 + r, b*16 + key] = Q K^T for `batch` rows and one block of keys."""
        acc = T.alloc_buffer(
            (batch * BLOCK_SIZE,), "float32", scope="local", annotations={"disable_lower_builtin": True}
        )
        for t in T.unroll(batch * key_vectors):
            acc[T.ramp(t * lanes, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for d in T.serial(head_dim):
            for j in T.unroll(key_vectors):
                key: T.let = widen(isa, K[block, h, d, T.ramp(j * lanes, 1, lanes)], "float16")
                for r in T.unroll(batch):
                    token: T.let = first + T.min((row0 + r) // group, last)
                    query: T.let = T.broadcast(Q[token, (h * group + (row0 + r) % group) * head_dim + d], lanes)
                    acc[T.ramp((r * key_vectors + j) * lanes, 1, lanes)] = fma(
                        isa, key, query, acc[T.ramp((r * key_vectors + j) * lanes, 1, lanes)]
                    )
        for r in T.unroll(batch):
            for j in T.unroll(key_vectors):
                score: T.let = acc[T.ramp((r * key_vectors + j) * lanes, 1, lanes)]
                P[row0 + r, T.ramp(b * BLOCK_SIZE + j * lanes, 1, lanes)] = score

    @T.inline
    def soften(r, visible, blocks, P, largest, total, correction):
        """P[r] = exp(P[r] - max) where the key is visible; the running maximum, sum and correction of the row."""
        part = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        part[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(MASKED), lanes)
        for j in T.serial(blocks * key_vectors):
            P[r, T.ramp(j * lanes, 1, lanes)] = T.Select(
                T.ramp(j * lanes, 1, lanes) < T.broadcast(visible, lanes),
                P[r, T.ramp(j * lanes, 1, lanes)],
                T.broadcast(T.float32(MASKED), lanes),
            )
            part[T.ramp(0, 1, lanes)] = T.max(part[T.ramp(0, 1, lanes)], P[r, T.ramp(j * lanes, 1, lanes)])
        peak: T.let = T.max(largest[r], lane_max(part, lanes))
        correction[r, T.ramp(0, 1, lanes)] = exp(isa, T.broadcast(largest[r] - peak, lanes))
        largest[r] = peak
        part[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for j in T.serial(blocks * key_vectors):
            P[r, T.ramp(j * lanes, 1, lanes)] = exp(isa, P[r, T.ramp(j * lanes, 1, lanes)] - T.broadcast(peak, lanes))
            part[T.ramp(0, 1, lanes)] = part[T.ramp(0, 1, lanes)] + P[r, T.ramp(j * lanes, 1, lanes)]
        total[r] = total[r] * correction[r, 0] + lane_sum(part, range(lanes))

    @T.inline
    def mix(row0, j, h, owner, chunk, keys, table, P, V, correction, O):
        """O[row0 + r] = O * correction + P V for `batch` rows and one vector of head_dim."""
        acc = T.alloc_buffer((batch * lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        for r in T.unroll(batch):
            before: T.let = O[row0 + r, T.ramp(j * lanes, 1, lanes)]
            acc[T.ramp(r * lanes, 1, lanes)] = before * correction[row0 + r, T.ramp(0, 1, lanes)]
        for key in T.serial(keys):
            block: T.let = T.cast(table[owner, chunk * CHUNK_BLOCKS + key // BLOCK_SIZE], "int64")
            value: T.let = widen(isa, V[block, h, key % BLOCK_SIZE, T.ramp(j * lanes, 1, lanes)], "float16")
            for r in T.unroll(batch):
                acc[T.ramp(r * lanes, 1, lanes)] = fma(
                    isa, value, T.broadcast(P[row0 + r, key], lanes), acc[T.ramp(r * lanes, 1, lanes)]
                )
        for r in T.unroll(batch):
            O[row0 + r, T.ramp(j * lanes, 1, lanes)] = acc[T.ramp(r * lanes, 1, lanes)]

    @T.prim_func
    def kernel(
        q: T.handle,
        k: T.handle,
        v: T.handle,
        table_: T.handle,
        first_: T.handle,
        count_: T.handle,
        owner_: T.handle,
        position_: T.handle,
        y: T.handle,
    ):
        m = T.int32()
        cache_blocks = T.int32()
        sequences = T.int32()
        max_blocks = T.int32()
        tiles = T.int32()
        Q = T.match_buffer(q, (m, heads * head_dim), "float32")
        K = T.match_buffer(k, key_shape(cache_blocks, kv_heads, head_dim), "float16")
        V = T.match_buffer(v, value_shape(cache_blocks, kv_heads, head_dim), "float16")
        table = T.match_buffer(table_, (sequences, max_blocks), "int32")
        first = T.match_buffer(first_, (tiles,), "int32")
        count = T.match_buffer(count_, (tiles,), "int32")
        owner = T.match_buffer(owner_, (tiles,), "int32")
        position = T.match_buffer(position_, (tiles,), "int32")
        Y = T.match_buffer(y, (m, heads * head_dim), "float32")
        for task in T.parallel(kv_heads * tiles):
            P = T.alloc_buffer((rows, CHUNK), "float32")
            O = T.alloc_buffer((rows, head_dim), "float32")
            correction = T.alloc_buffer((rows, lanes), "float32")
            largest = T.alloc_buffer((rows,), "float32")
            total = T.alloc_buffer((rows,), "float32")
            h: T.let = task // tiles
            # Threads take contiguous ranges of tasks, and later tiles see more keys: pair the first with the last.
            i: T.let = task % tiles
            t: T.let = T.Select(i % 2 == 0, i // 2, tiles - 1 - i // 2)
            last: T.let = count[t] - 1
            length: T.let = position[t] + count[t]
            for r in T.serial(rows):
                largest[r] = T.float32(MASKED)
                total[r] = T.float32(0)
                for j in T.serial(value_vectors):
                    O[r, T.ramp(j * lanes, 1, lanes)] = T.broadcast(T.float32(0), lanes)
            for chunk in T.serial((length + CHUNK - 1) // CHUNK):
                keys: T.let = T.min(length - chunk * CHUNK, CHUNK)
                blocks: T.let = (keys + BLOCK_SIZE - 1) // BLOCK_SIZE
                for row_batch in T.serial(rows // batch):
                    for b in T.serial(blocks):
                        # A large cache has more than 2**31 elements.
                        block: T.let = T.cast(table[owner[t], chunk * CHUNK_BLOCKS + b], "int64")
                        scores(row_batch * batch, b, block, h, first[t], last, Q, K, P)
                for r in T.serial(rows):
                    visible: T.let = position[t] + T.min(r // group, last) + 1 - chunk * CHUNK
                    soften(r, visible, blocks, P, largest, total, correction)
                for row_batch in T.serial(rows // batch):
                    for j in T.serial(value_vectors):
                        mix(row_batch * batch, j, h, owner[t], chunk, keys, table, P, V, correction, O)
            for r in T.serial(rows):
                if r // group <= last:
                    for j in T.serial(value_vectors):
                        column: T.let = (h * group + r % group) * head_dim + j * lanes
                        mean: T.let = O[r, T.ramp(j * lanes, 1, lanes)] / T.broadcast(total[r], lanes)
                        Y[first[t] + r // group, T.ramp(column, 1, lanes)] = mean

    return kernel


def attention_reference(
    q: NDArray[np.float64], k: NDArray[np.float64], v: NDArray[np.float64], position: int
) -> NDArray[np.float64]:
    """One sequence: q [m, heads, head_dim] scaled, at `position` onwards; k and v [length, kv_heads, head_dim]."""
    group = q.shape[1] // k.shape[1]
    scores = np.einsum("mhd,khd->hmk", q, np.repeat(k, group, axis=1))
    hidden = np.arange(len(k))[None, :] > position + np.arange(len(q))[:, None]
    scores[:, hidden] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed: NDArray[np.float64] = np.einsum("hmk,khd->mhd", weights, np.repeat(v, group, axis=1))
    return mixed
