"""Causal attention of many tokens: grouped query heads, an online softmax (Milakov and Gimelshein, 2018).

The work is cut into tiles: some consecutive new tokens of one sequence, times the query heads of one KV head, which are
the rows of two matrix products. A tile walks the keys it sees in chunks. Keys and values are brought into the form that
is multiplied once for all its rows, 32 keys or 32 features at a time, which stay in the first-level cache while every
row meets them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm.script import tirx as T

from ilmari.kernels.attention_product import PANEL, VECTORS
from ilmari.kernels.attention_scores import scores
from ilmari.kernels.attention_tiles import CHUNK
from ilmari.kernels.attention_values import value_sums
from ilmari.kernels.isa import Isa
from ilmari.kernels.kv_layout import BLOCK_SIZE, block_bytes, key_shape, value_shape
from ilmari.kernels.numeric import MASKED, exp_nonpositive, lane_max, lane_sum
from ilmari.kernels.plan import padded
from ilmari.kernels.prefetch import LINE, prefetch_head, rows_ahead

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc

AHEAD = 8  # rows for whose queries and outputs the memory is asked beforehand: each token's are another page


def attention_prefill(isa: Isa, heads: int, kv_heads: int, head_dim: int, tokens: int, kv_dtype: str) -> PrimFunc:
    """Y[m, heads * head_dim] = softmax(Q K^T) V, each token seeing the keys up to its own position.

    Q is [m, heads * head_dim] float32, rotated and scaled; K and V of `kv_dtype` as in `kv_layout`; table [sequences,
    max_blocks] int32 holds each sequence's blocks. A tile t is `count[t]` <= tokens rows of Q from `first[t]`, of
    sequence `owner[t]`, the first of them at position `position[t]`; all int32 [tiles]. Threads share the work evenly
    when tiles come in the order of the keys they see.
    """
    lanes = isa.lanes
    group = heads // kv_heads
    batch = 8 if lanes == 16 else 4  # rows of a register tile of two vectors: 16 accumulators of 32, or 8 of 16
    rows = padded(tokens * group, batch)
    width = VECTORS * lanes
    lines = block_bytes(kv_dtype, head_dim) // LINE  # of a head in a block
    panel_lines = -(-max(head_dim, CHUNK) * PANEL * lines // (head_dim * BLOCK_SIZE))  # the most in a panel of either
    share = -(-panel_lines * batch // rows)
    how = scores(isa, kv_dtype, head_dim, batch)
    take_query, take_keys, score = how.take_query, how.take_keys, how.score
    sums = value_sums(isa, kv_dtype, head_dim, batch)
    take_scales, take_values, weigh, mix = sums.take_scales, sums.take_values, sums.weigh, sums.mix

    @T.inline
    def gather_queries(first, last, h, Q, queries, query_scale):
        """The tile's rows side by side; the rows past its tokens repeat the last one."""
        for r in T.serial(((last + 1) * group + batch - 1) // batch * batch):
            token: T.let = first + T.min(r // group, last)
            column: T.let = (h * group + r % group) * head_dim
            rows_ahead(1, head_dim, token + -(-AHEAD // group), column, Q, write=False)
            take_query(r, token, column, Q, queries, query_scale)

    @T.inline
    def fetch(cache, block0, line0, limit, h, owner, table):
        """Ask for a part of some blocks' lines, so many that a whole tile asks for a panel's."""
        for i in T.unroll(share):
            block: T.let = T.cast(table[owner, T.min(block0 + (line0 + i) // lines, limit)], "int64")
            T.evaluate(prefetch_head(cache, block, h, (line0 + i) % lines))

    @T.inline
    def mask(r, visible, vectors, P):
        for j in T.serial(vectors):
            P[r, T.ramp(j * lanes, 1, lanes)] = T.Select(
                T.ramp(j * lanes, 1, lanes) < T.broadcast(visible, lanes),
                P[r, T.ramp(j * lanes, 1, lanes)],
                T.broadcast(T.float32(MASKED), lanes),
            )

    @T.inline
    def soften(r, vectors, P, largest, total, correction):
        """P[r] = exp(P[r] - max); the running maximum and sums of the row, and what its older sums shrink by."""
        part = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        part[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(MASKED), lanes)
        for j in T.serial(vectors):
            part[T.ramp(0, 1, lanes)] = T.max(part[T.ramp(0, 1, lanes)], P[r, T.ramp(j * lanes, 1, lanes)])
        peak: T.let = T.max(largest[r], lane_max(part, lanes))
        shrink: T.let = exp_nonpositive(isa, T.broadcast(largest[r] - peak, lanes))
        part[T.ramp(0, 1, lanes)] = total[r, T.ramp(0, 1, lanes)] * shrink
        largest[r] = peak
        for j in T.serial(vectors):
            weight: T.let = exp_nonpositive(isa, P[r, T.ramp(j * lanes, 1, lanes)] - T.broadcast(peak, lanes))
            P[r, T.ramp(j * lanes, 1, lanes)] = weight
            part[T.ramp(0, 1, lanes)] = part[T.ramp(0, 1, lanes)] + weight
        total[r, T.ramp(0, 1, lanes)] = part[T.ramp(0, 1, lanes)]
        correction[r, T.ramp(0, 1, lanes)] = shrink

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
        K = T.match_buffer(k, key_shape(kv_dtype, cache_blocks, kv_heads, head_dim), kv_dtype)
        V = T.match_buffer(v, value_shape(kv_dtype, cache_blocks, kv_heads, head_dim), kv_dtype)
        table = T.match_buffer(table_, (sequences, max_blocks), "int32")
        first = T.match_buffer(first_, (tiles,), "int32")
        count = T.match_buffer(count_, (tiles,), "int32")
        owner = T.match_buffer(owner_, (tiles,), "int32")
        position = T.match_buffer(position_, (tiles,), "int32")
        Y = T.match_buffer(y, (m, heads * head_dim), "float32")
        for task in T.parallel(kv_heads * tiles):
            queries = T.alloc_buffer((rows, head_dim), how.query_dtype)
            query_scale = T.alloc_buffer((rows, 1), "float32")
            key_scale = T.alloc_buffer((1, PANEL), "float32")
            value_scale = T.alloc_buffer((1, CHUNK), "float32")
            values_ = T.alloc_buffer((sums.depth, PANEL), sums.value_dtype)
            keys_ = T.alloc_buffer((how.depth, PANEL), how.key_dtype)
            P = T.alloc_buffer((rows, CHUNK), "float32")
            weights = T.alloc_buffer((rows, CHUNK), sums.weight_dtype)
            weight_scale = T.alloc_buffer((rows, 1), "float32")
            O = T.alloc_buffer((rows, head_dim), "float32")
            correction = T.alloc_buffer((rows, lanes), "float32")
            largest = T.alloc_buffer((rows,), "float32")
            total = T.alloc_buffer((rows, lanes), "float32")
            h: T.let = task // tiles
            # Threads take contiguous ranges of tasks, and later tiles see more keys: pair the first with the last.
            i: T.let = task % tiles
            t: T.let = T.Select(i % 2 == 0, i // 2, tiles - 1 - i // 2)
            last: T.let = count[t] - 1
            length: T.let = position[t] + count[t]
            limit: T.let = (length - 1) // BLOCK_SIZE
            batches: T.let = (count[t] * group + batch - 1) // batch
            gather_queries(first[t], last, h, Q, queries, query_scale)
            for r in T.serial(batches * batch):
                largest[r] = T.float32(MASKED)
                total[r, T.ramp(0, 1, lanes)] = T.broadcast(T.float32(0), lanes)
                for j in T.serial(head_dim // lanes):
                    O[r, T.ramp(j * lanes, 1, lanes)] = T.broadcast(T.float32(0), lanes)
            for chunk in T.serial((length + CHUNK - 1) // CHUNK):
                start: T.let = chunk * CHUNK
                block0: T.let = chunk * (CHUNK // BLOCK_SIZE)
                blocks: T.let = (T.min(length - start, CHUNK) + BLOCK_SIZE - 1) // BLOCK_SIZE
                for panel in T.serial((blocks * BLOCK_SIZE + PANEL - 1) // PANEL):
                    # A large cache has more than 2**31 elements.
                    left: T.let = T.cast(table[owner[t], block0 + panel * 2], "int64")
                    right: T.let = T.cast(table[owner[t], block0 + T.min(panel * 2 + 1, blocks - 1)], "int64")
                    take_keys(left, 0, h, K, keys_, key_scale)
                    take_keys(right, BLOCK_SIZE, h, K, keys_, key_scale)
                    for rb in T.serial(batches):
                        seen: T.let = position[t] + T.min((rb * batch + batch - 1) // group, last) + 1 - start
                        fetch(V, block0 + panel * (PANEL // BLOCK_SIZE), rb * share, limit, h, owner[t], table)
                        if panel * PANEL < seen:
                            for j in T.serial(PANEL // width):
                                score(rb * batch, panel, j * width, queries, query_scale, keys_, key_scale, P)
                for b in T.serial(blocks):
                    block: T.let = T.cast(table[owner[t], block0 + b], "int64")
                    stored: T.let = T.min(BLOCK_SIZE, length - start - b * BLOCK_SIZE)
                    take_scales(block, b * BLOCK_SIZE, stored, h, V, value_scale)
                for rb in T.serial(batches):
                    seen: T.let = position[t] + T.min((rb * batch + batch - 1) // group, last) + 1 - start
                    for i in T.serial(T.Select(seen > 0, batch, 0)):
                        r: T.let = rb * batch + i
                        vectors: T.let = (T.min(seen, CHUNK) + lanes - 1) // lanes
                        visible: T.let = position[t] + T.min(r // group, last) + 1 - start
                        if visible < CHUNK:
                            mask(r, visible, vectors, P)
                        soften(r, vectors, P, largest, total, correction)
                        weigh(r, vectors, P, value_scale, weights, weight_scale)
                for panel in T.serial(head_dim // PANEL):
                    for b in T.serial(blocks):
                        block: T.let = T.cast(table[owner[t], block0 + b], "int64")
                        stored: T.let = T.min(BLOCK_SIZE, length - start - b * BLOCK_SIZE)
                        take_values(block, b * BLOCK_SIZE, stored, panel, h, V, value_scale, values_)
                    for rb in T.serial(batches):
                        seen: T.let = position[t] + T.min((rb * batch + batch - 1) // group, last) + 1 - start
                        next_line: T.let = panel * panel_lines + rb * share
                        fetch(K, block0 + CHUNK // BLOCK_SIZE, next_line, limit, h, owner[t], table)
                        if seen > 0:
                            for j in T.serial(PANEL // width):
                                mix(
                                    rb * batch,
                                    T.min(seen, CHUNK),
                                    panel,
                                    j * width,
                                    P,
                                    weights,
                                    weight_scale,
                                    values_,
                                    correction,
                                    O,
                                )
            for r in T.serial(count[t] * group):
                part = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
                part[T.ramp(0, 1, lanes)] = total[r, T.ramp(0, 1, lanes)]
                inverse: T.let = T.broadcast(T.float32(1) / lane_sum(part, range(lanes)), lanes)
                column: T.let = (h * group + r % group) * head_dim
                rows_ahead(1, head_dim, first[t] + (r + AHEAD) // group, column, Y, write=True)
                for j in T.serial(head_dim // lanes):
                    mean: T.let = O[r, T.ramp(j * lanes, 1, lanes)] * inverse
                    Y[first[t] + r // group, T.ramp(column + j * lanes, 1, lanes)] = mean

    return kernel
