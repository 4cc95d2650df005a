"""Products of decoding attention in float32, of a cache of either dtype."""

from __future__ import annotations

from tvm.script import tirx as T

from ilmari.kernels.decode_products import Products, fetch, tile_of
from ilmari.kernels.isa import Isa, fma
from ilmari.kernels.kv_layout import BLOCK_SIZE
from ilmari.kernels.kv_read import key_feature, scales, value_part
from ilmari.kernels.prefetch import LINE


def decode_float32(isa: Isa, kv_dtype: str, kv_heads: int, group: int, head_dim: int) -> Products:
    """As `Products` says."""
    lanes, tile = isa.lanes, tile_of(isa, group, head_dim)
    rows, key_vectors, value_vectors = tile.rows, tile.key_vectors, tile.value_vectors
    key_blocks = max(1, key_vectors * lanes // BLOCK_SIZE)
    per_line = LINE // (2 if kv_dtype == "float16" else 1)
    lines = head_dim * BLOCK_SIZE // per_line
    scaled = kv_dtype == "int8"

    @T.inline
    def take_query(r, token, h, Q, queries, query_scale):
        pass

    @T.inline
    def score(row0, at, h, token, owner, first, last, table, Q, queries, query_scale, K, V, P):  # noqa: ARG001
        acc = T.alloc_buffer(
            (rows * key_vectors * lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True}
        )
        for t in T.unroll(rows * key_vectors):
            acc[T.ramp(t * lanes, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for line in T.serial(lines):
            for j in T.unroll(key_blocks):
                index: T.let = first + at * lanes // BLOCK_SIZE + (line * key_blocks + j) // lines
                fetch(index, (line * key_blocks + j) % lines, h, h, owner, first, last, table, K, V)
            for step in T.unroll(per_line // BLOCK_SIZE):
                d: T.let = line * (per_line // BLOCK_SIZE) + step
                for j in T.unroll(key_vectors):
                    # Keys past the end are those of the last block once more: masked later.
                    index: T.let = T.min(first + (at + j) * lanes // BLOCK_SIZE, last)
                    block: T.let = T.cast(table[owner, index], "int64")
                    key: T.let = key_feature(isa, K, block, h, d, (at + j) * lanes % BLOCK_SIZE)
                    for r in T.unroll(rows):
                        acc[T.ramp((r * key_vectors + j) * lanes, 1, lanes)] = fma(
                            isa,
                            key,
                            T.broadcast(Q[token, (h * group + row0 + r) * head_dim + d], lanes),
                            acc[T.ramp((r * key_vectors + j) * lanes, 1, lanes)],
                        )
        for j in T.unroll(key_vectors):
            for r in T.unroll(rows):
                total: T.let = acc[T.ramp((r * key_vectors + j) * lanes, 1, lanes)]
                if scaled:
                    index: T.let = T.min(first + (at + j) * lanes // BLOCK_SIZE, last)
                    block: T.let = T.cast(table[owner, index], "int64")
                    scale: T.let = scales(isa, K, block, h, (at + j) * lanes % BLOCK_SIZE)
                    P[row0 + r, T.ramp((at + j) * lanes, 1, lanes)] = total * scale
                else:
                    P[row0 + r, T.ramp((at + j) * lanes, 1, lanes)] = total

    @T.inline
    def weigh(r, keys, h, owner, first, last, table, V, P, weights, weight_scale):  # noqa: ARG001
        if scaled:
            for j in T.serial((keys + lanes - 1) // lanes):
                block: T.let = T.cast(table[owner, first + j * lanes // BLOCK_SIZE], "int64")
                P[r, T.ramp(j * lanes, 1, lanes)] = (
                    scales(isa, V, block, h, j * lanes % BLOCK_SIZE) * P[r, T.ramp(j * lanes, 1, lanes)]
                )

    @T.inline
    def mix(row0, at, h, s, keys, owner, first, last, table, K, V, weights, weight_scale, partial):  # noqa: ARG001
        acc = T.alloc_buffer(
            (rows * value_vectors * lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True}
        )
        for t in T.unroll(rows * value_vectors):
            acc[T.ramp(t * lanes, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for b in T.serial((keys + BLOCK_SIZE - 1) // BLOCK_SIZE):
            block: T.let = T.cast(table[owner, first + b], "int64")
            for i in T.serial(T.min(BLOCK_SIZE, keys - b * BLOCK_SIZE)):
                for line in T.unroll(lines // BLOCK_SIZE):
                    at_line: T.let = i * (lines // BLOCK_SIZE) + line
                    fetch(first + b, at_line, h, (h + 1) % kv_heads, owner, first, last, table, V, K)
                for j in T.unroll(value_vectors):
                    value: T.let = value_part(isa, V, block, h, i, (at + j) * lanes)
                    for r in T.unroll(rows):
                        acc[T.ramp((r * value_vectors + j) * lanes, 1, lanes)] = fma(
                            isa,
                            value,
                            T.broadcast(weights[row0 + r, b * BLOCK_SIZE + i], lanes),
                            acc[T.ramp((r * value_vectors + j) * lanes, 1, lanes)],
                        )
        for r in T.unroll(rows):
            for j in T.unroll(value_vectors):
                partial[s, h * group + row0 + r, T.ramp((at + j) * lanes, 1, lanes)] = acc[
                    T.ramp((r * value_vectors + j) * lanes, 1, lanes)
                ]

    return Products(False, take_query, score, weigh, mix)
