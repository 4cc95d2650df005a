"""Products of decoding attention with an int8 cache, in integers: its bytes are widened to 16 bits, no further.

A query has one scale. So has a segment's row of the softmax, each weight times its value's scale. Both keep 15 bits and
a sign, where keys and values have seven: what is lost is far below what the cache has lost.
"""

from __future__ import annotations

from tvm.script import tirx as T

from ilmari.kernels.attention_tiles import SEGMENT
from ilmari.kernels.byte_dot import dot_words, every_lane
from ilmari.kernels.decode_products import Products, fetch, tile_of
from ilmari.kernels.isa import Isa
from ilmari.kernels.kv_layout import BLOCK_SIZE, LEVELS
from ilmari.kernels.kv_read import scales, words
from ilmari.kernels.numeric import SMALLEST, lane_max, round_even
from ilmari.kernels.prefetch import LINE

LARGEST = 32767


def decode_int16(isa: Isa, kv_dtype: str, kv_heads: int, group: int, head_dim: int) -> Products:
    """As `Products` says."""
    assert kv_dtype == "int8"
    assert max(head_dim, SEGMENT) * LARGEST * LEVELS < 2**31
    lanes, tile = isa.lanes, tile_of(isa, group, head_dim)
    rows, key_vectors, value_vectors = tile.rows, tile.key_vectors, tile.value_vectors
    key_blocks = max(1, key_vectors * lanes // BLOCK_SIZE)
    lines = head_dim * BLOCK_SIZE // LINE
    pair_lines = 2 * head_dim // LINE

    @T.inline
    def take_query(r, token, h, Q, queries, query_scale):
        part = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        part[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for j in T.serial(head_dim // lanes):
            x: T.let = Q[token, T.ramp((h * group + r) * head_dim + j * lanes, 1, lanes)]
            part[T.ramp(0, 1, lanes)] = T.max(part[T.ramp(0, 1, lanes)], T.max(x, -x))
        largest: T.let = T.max(lane_max(part, lanes), T.float32(SMALLEST))
        query_scale[r] = largest / T.float32(LARGEST)
        factor: T.let = T.broadcast(T.float32(LARGEST) / largest, lanes)
        for j in T.serial(head_dim // lanes):
            level: T.let = round_even(isa, Q[token, T.ramp((h * group + r) * head_dim + j * lanes, 1, lanes)], factor)
            queries[r, T.ramp(j * lanes, 1, lanes)] = T.cast(level, f"int16x{lanes}")

    @T.inline
    def score(row0, at, h, token, owner, first, last, table, Q, queries, query_scale, K, V, P):  # noqa: ARG001
        acc = T.alloc_buffer(
            (rows * key_vectors * lanes,), "int32", scope="local", annotations={"disable_lower_builtin": True}
        )
        for t in T.unroll(rows * key_vectors):
            acc[T.ramp(t * lanes, 1, lanes)] = T.broadcast(T.int32(0), lanes)
        for line in T.serial(lines):
            for j in T.unroll(key_blocks):
                index: T.let = first + at * lanes // BLOCK_SIZE + (line * key_blocks + j) // lines
                fetch(index, (line * key_blocks + j) % lines, h, h, owner, first, last, table, K, V)
            for step in T.unroll(LINE // BLOCK_SIZE // 2):
                d: T.let = line * (LINE // BLOCK_SIZE // 2) + step
                for j in T.unroll(key_vectors):
                    # Keys past the end are those of the last block once more: masked later.
                    index: T.let = T.min(first + (at + j) * lanes // BLOCK_SIZE, last)
                    block: T.let = T.cast(table[owner, index], "int64")
                    key: T.let = words(isa, K, block, h, d * BLOCK_SIZE + (at + j) * lanes % BLOCK_SIZE)
                    for r in T.unroll(rows):
                        acc[T.ramp((r * key_vectors + j) * lanes, 1, lanes)] = dot_words(
                            isa,
                            acc[T.ramp((r * key_vectors + j) * lanes, 1, lanes)],
                            key,
                            every_lane(isa, queries[row0 + r, T.ramp(2 * d, 1, 2)], "int16"),
                        )
        for j in T.unroll(key_blocks):
            fetch(first + at * lanes // BLOCK_SIZE + j, lines, h, h, owner, first, last, table, K, V)
        for j in T.unroll(key_vectors):
            index: T.let = T.min(first + (at + j) * lanes // BLOCK_SIZE, last)
            block: T.let = T.cast(table[owner, index], "int64")
            scale: T.let = scales(isa, K, block, h, (at + j) * lanes % BLOCK_SIZE)
            for r in T.unroll(rows):
                total: T.let = T.cast(acc[T.ramp((r * key_vectors + j) * lanes, 1, lanes)], f"float32x{lanes}")
                P[row0 + r, T.ramp((at + j) * lanes, 1, lanes)] = (
                    total * scale * T.broadcast(query_scale[row0 + r], lanes)
                )

    @T.inline
    def weigh(r, keys, h, owner, first, last, table, V, P, weights, weight_scale):  # noqa: ARG001
        part = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        part[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(SMALLEST), lanes)
        for j in T.serial((keys + lanes - 1) // lanes):
            block: T.let = T.cast(table[owner, first + j * lanes // BLOCK_SIZE], "int64")
            weight: T.let = T.Select(
                T.ramp(j * lanes, 1, lanes) < T.broadcast(keys, lanes),
                P[r, T.ramp(j * lanes, 1, lanes)] * scales(isa, V, block, h, j * lanes % BLOCK_SIZE),
                T.broadcast(T.float32(0), lanes),
            )
            P[r, T.ramp(j * lanes, 1, lanes)] = weight
            part[T.ramp(0, 1, lanes)] = T.max(part[T.ramp(0, 1, lanes)], weight)
        largest: T.let = lane_max(part, lanes)
        weight_scale[r] = largest / T.float32(LARGEST)
        factor: T.let = T.broadcast(T.float32(LARGEST) / largest, lanes)
        for j in T.serial((keys + lanes - 1) // lanes):
            level: T.let = round_even(isa, P[r, T.ramp(j * lanes, 1, lanes)], factor)
            weights[r, T.ramp(j * lanes, 1, lanes)] = T.cast(level, f"int16x{lanes}")

    @T.inline
    def mix(row0, at, h, s, keys, owner, first, last, table, K, V, weights, weight_scale, partial):
        acc = T.alloc_buffer(
            (rows * value_vectors * lanes,), "int32", scope="local", annotations={"disable_lower_builtin": True}
        )
        for t in T.unroll(rows * value_vectors):
            acc[T.ramp(t * lanes, 1, lanes)] = T.broadcast(T.int32(0), lanes)
        for b in T.serial((keys + BLOCK_SIZE - 1) // BLOCK_SIZE):
            block: T.let = T.cast(table[owner, first + b], "int64")
            fetch(first + b, lines, h, (h + 1) % kv_heads, owner, first, last, table, V, K)
            for i in T.serial((T.min(BLOCK_SIZE, keys - b * BLOCK_SIZE) + 1) // 2):
                for line in T.unroll(pair_lines):
                    fetch(first + b, i * pair_lines + line, h, (h + 1) % kv_heads, owner, first, last, table, V, K)
                for j in T.unroll(value_vectors):
                    value: T.let = words(isa, V, block, h, i * head_dim + (at + j) * lanes)
                    for r in T.unroll(rows):
                        acc[T.ramp((r * value_vectors + j) * lanes, 1, lanes)] = dot_words(
                            isa,
                            acc[T.ramp((r * value_vectors + j) * lanes, 1, lanes)],
                            value,
                            every_lane(isa, weights[row0 + r, T.ramp(b * BLOCK_SIZE + 2 * i, 1, 2)], "int16"),
                        )
        for r in T.unroll(rows):
            for j in T.unroll(value_vectors):
                total: T.let = T.cast(acc[T.ramp((r * value_vectors + j) * lanes, 1, lanes)], f"float32x{lanes}")
                partial[s, h * group + row0 + r, T.ramp((at + j) * lanes, 1, lanes)] = total * T.broadcast(
                    weight_scale[row0 + r], lanes
                )

    return Products(True, take_query, score, weigh, mix)
