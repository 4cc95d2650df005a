"""Scores of prefill attention, queries times keys: in float32, or in 16-bit integers where those multiply faster.

As integers a query and a float16 key are scaled so that their length is `LENGTH`. The sum of their products is then at
most its square (Cauchy and Schwarz), which int32 holds; rounding errors stay below those of float16 keys. int8 keys are
taken as they are, at most 127 times as long as a feature is large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from ilmari.kernels.attention_product import PANEL, VECTORS, float_product, word_product
from ilmari.kernels.isa import Isa, fma
from ilmari.kernels.kv_layout import BLOCK_SIZE, LEVELS
from ilmari.kernels.kv_read import key_feature, scales, words
from ilmari.kernels.numeric import SMALLEST, lane_sum, round_even, word_pair

LENGTH = 32767


@dataclass(frozen=True)
class Scores:
    """Buffers and inline functions, for register tiles of `batch` rows.

    queries [rows, head_dim] and keys [depth, PANEL]: their dtypes. query_scale [rows, 1] and key_scale [1, PANEL],
    float32, are what products are to be multiplied by, unused in float32.
    take_query(r, token, column, Q, queries, query_scale): row r is Q[token, column:column + head_dim].
    take_keys(block, at, h, K, keys, key_scale): columns `at` and on are a block's keys of head h.
    score(row0, panel, j0, queries, query_scale, keys, key_scale, P): P[row0:row0 + batch, panel * PANEL + j0:] are the
    scores of two vectors of keys.
    """

    query_dtype: str
    key_dtype: str
    depth: int
    take_query: Any
    take_keys: Any
    score: Any


def scores(isa: Isa, kv_dtype: str, head_dim: int, batch: int) -> Scores:
    """The faster ones of an instruction set, for a cache of `kv_dtype`."""
    return (_int16 if isa.fast_words else _float32)(isa, kv_dtype, head_dim, batch)


def _float32(isa: Isa, kv_dtype: str, head_dim: int, batch: int) -> Scores:
    lanes, add = isa.lanes, float_product(isa, batch)

    @T.inline
    def take_query(r, token, column, Q, queries, query_scale):  # noqa: ARG001
        for j in T.serial(head_dim // lanes):
            queries[r, T.ramp(j * lanes, 1, lanes)] = Q[token, T.ramp(column + j * lanes, 1, lanes)]

    @T.inline
    def take_keys(block, at, h, K, keys, key_scale):  # noqa: ARG001
        for d in T.serial(head_dim):
            for j in T.unroll(BLOCK_SIZE // lanes):
                key: T.let = key_feature(isa, K, block, h, d, j * lanes)
                if kv_dtype == "int8":
                    keys[d, T.ramp(at + j * lanes, 1, lanes)] = key * scales(isa, K, block, h, j * lanes)
                else:
                    keys[d, T.ramp(at + j * lanes, 1, lanes)] = key

    @T.inline
    def score(row0, panel, j0, queries, query_scale, keys, key_scale, P):  # noqa: ARG001
        acc = T.alloc_buffer(
            (batch * VECTORS * lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True}
        )
        for t in T.unroll(batch * VECTORS):
            acc[T.ramp(t * lanes, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        add(head_dim, row0, j0, queries, keys, acc)
        for r in T.unroll(batch):
            for j in T.unroll(VECTORS):
                P[row0 + r, T.ramp(panel * PANEL + j0 + j * lanes, 1, lanes)] = acc[
                    T.ramp((r * VECTORS + j) * lanes, 1, lanes)
                ]

    return Scores("float32", "float32", head_dim, take_query, take_keys, score)


def _int16(isa: Isa, kv_dtype: str, head_dim: int, batch: int) -> Scores:
    lanes, multiply = isa.lanes, word_product(isa, batch)
    assert LENGTH * LEVELS * head_dim**0.5 < 2**31

    @T.inline
    def take_query(r, token, column, Q, queries, query_scale):
        square = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        square[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for j in T.serial(head_dim // lanes):
            x: T.let = Q[token, T.ramp(column + j * lanes, 1, lanes)]
            square[T.ramp(0, 1, lanes)] = fma(isa, x, x, square[T.ramp(0, 1, lanes)])
        length: T.let = T.max(T.sqrt(lane_sum(square, range(lanes))), T.float32(SMALLEST))
        query_scale[r, 0] = length / T.float32(LENGTH)
        factor: T.let = T.broadcast(T.float32(LENGTH) / length, lanes)
        for j in T.serial(head_dim // lanes):
            levels: T.let = round_even(isa, Q[token, T.ramp(column + j * lanes, 1, lanes)], factor)
            queries[r, T.ramp(j * lanes, 1, lanes)] = T.cast(levels, f"int16x{lanes}")

    @T.inline
    def take_int8_keys(block, at, h, K, keys, key_scale):
        for j in T.serial(BLOCK_SIZE // lanes):
            key_scale[0, T.ramp(at + j * lanes, 1, lanes)] = scales(isa, K, block, h, j * lanes)
            for d in T.serial(head_dim // 2):
                pairs: T.let = words(isa, K, block, h, d * BLOCK_SIZE + j * lanes)
                keys[d, T.ramp(at + j * lanes, 1, lanes)] = T.reinterpret(pairs, dtype=f"int32x{lanes}")

    @T.inline
    def take_float16_keys(block, at, h, K, keys, key_scale):
        """Two features of a key lie side by side in a lane."""
        square = T.alloc_buffer((4, lanes), "float32", scope="local", annotations={"disable_lower_builtin": True})
        for j in T.serial(BLOCK_SIZE // lanes):
            for t in T.unroll(4):
                square[t, T.ramp(0, 1, lanes)] = T.broadcast(T.float32(0), lanes)
            for d in T.serial(head_dim // 4):
                for t in T.unroll(4):  # sums that do not wait for each other
                    x: T.let = key_feature(isa, K, block, h, d * 4 + t, j * lanes)
                    square[t, T.ramp(0, 1, lanes)] = fma(isa, x, x, square[t, T.ramp(0, 1, lanes)])
            early: T.let = square[0, T.ramp(0, 1, lanes)] + square[1, T.ramp(0, 1, lanes)]
            late: T.let = square[2, T.ramp(0, 1, lanes)] + square[3, T.ramp(0, 1, lanes)]
            length: T.let = T.max(T.sqrt(early + late), T.broadcast(T.float32(SMALLEST), lanes))
            key_scale[0, T.ramp(at + j * lanes, 1, lanes)] = length * T.broadcast(T.float32(1 / LENGTH), lanes)
            factor: T.let = T.broadcast(T.float32(LENGTH), lanes) / length
            for d in T.serial(head_dim // 2):
                even: T.let = round_even(isa, key_feature(isa, K, block, h, 2 * d, j * lanes), factor)
                odd: T.let = round_even(isa, key_feature(isa, K, block, h, 2 * d + 1, j * lanes), factor)
                keys[d, T.ramp(at + j * lanes, 1, lanes)] = word_pair(isa, even, odd)

    @T.inline
    def score(row0, panel, j0, queries, query_scale, keys, key_scale, P):
        acc = T.alloc_buffer(
            (batch * VECTORS * lanes,), "int32", scope="local", annotations={"disable_lower_builtin": True}
        )
        multiply(head_dim // 2, row0, j0, queries, keys, acc)
        for r in T.unroll(batch):
            for j in T.unroll(VECTORS):
                total: T.let = T.cast(acc[T.ramp((r * VECTORS + j) * lanes, 1, lanes)], f"float32x{lanes}")
                scale: T.let = key_scale[0, T.ramp(j0 + j * lanes, 1, lanes)]
                P[row0 + r, T.ramp(panel * PANEL + j0 + j * lanes, 1, lanes)] = (
                    total * scale * T.broadcast(query_scale[row0 + r, 0], lanes)
                )

    take_keys = take_int8_keys if kv_dtype == "int8" else take_float16_keys
    return Scores("int16", "int32", head_dim // 2, take_query, take_keys, score)
