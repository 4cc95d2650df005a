"""A new key and a new value into the cache, in its dtype (see `kv_layout`): inline functions for `rope_append`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from ilmari.kernels.isa import Isa
from ilmari.kernels.kv_layout import BLOCK_SIZE, LEVELS, SCALE_BYTES, block_bytes
from ilmari.kernels.numeric import SMALLEST, halve, lane_max, round_even


@dataclass(frozen=True)
class Stores:
    """store_key(block, h, offset, row, column, X, K): X[row, column:column + head_dim] float32 as the key of a token.

    `offset` is the token's place in the block. store_value the same, with V.
    """

    store_key: Any
    store_value: Any


def stores(isa: Isa, dtype: str, head_dim: int) -> Stores:
    """Those of a cache of `dtype`."""
    return _int8(isa, head_dim) if dtype == "int8" else _float16(isa, head_dim)


def _float16(isa: Isa, head_dim: int) -> Stores:
    lanes = isa.lanes

    @T.inline
    def store_key(block, h, offset, row, column, X, K):
        key = T.alloc_buffer((lanes,), "float16", scope="local", annotations={"disable_lower_builtin": True})
        for j in T.serial(head_dim // lanes):
            key[T.ramp(0, 1, lanes)] = halve(isa, X[row, T.ramp(column + j * lanes, 1, lanes)])
            for t in T.unroll(lanes):
                K[block, h, j * lanes + t, offset] = key[t]

    @T.inline
    def store_value(block, h, offset, row, column, X, V):
        for j in T.serial(head_dim // lanes):
            V[block, h, offset, T.ramp(j * lanes, 1, lanes)] = halve(isa, X[row, T.ramp(column + j * lanes, 1, lanes)])

    return Stores(store_key, store_value)


def _int8(isa: Isa, head_dim: int) -> Stores:
    lanes = isa.lanes
    scales = block_bytes("int8", head_dim) - BLOCK_SIZE * SCALE_BYTES

    @T.inline
    def quantize(block, h, offset, row, column, X, cache, levels):
        """levels = X / scale to the nearest integer, halves to even; the largest becomes 127 or -127."""
        part = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        part[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for j in T.serial(head_dim // lanes):
            x: T.let = X[row, T.ramp(column + j * lanes, 1, lanes)]
            part[T.ramp(0, 1, lanes)] = T.max(part[T.ramp(0, 1, lanes)], T.max(x, -x))
        largest: T.let = lane_max(part, lanes)
        factor: T.let = T.float32(LEVELS) / T.max(largest, T.float32(SMALLEST))
        scale: T.let = T.Select(largest < T.float32(SMALLEST), T.float32(0), largest / T.float32(LEVELS))
        cache[block, h, T.ramp(scales + offset * SCALE_BYTES, 1, SCALE_BYTES)] = T.reinterpret(scale, dtype="int8x4")
        for j in T.serial(head_dim // lanes):
            level: T.let = round_even(isa, X[row, T.ramp(column + j * lanes, 1, lanes)], T.broadcast(factor, lanes))
            levels[T.ramp(j * lanes, 1, lanes)] = T.cast(level, f"int8x{lanes}")

    @T.inline
    def store_key(block, h, offset, row, column, X, K):
        levels = T.alloc_buffer((head_dim,), "int8")
        quantize(block, h, offset, row, column, X, K, levels)
        for d in T.serial(head_dim // 2):
            K[block, h, T.ramp((d * BLOCK_SIZE + offset) * 2, 1, 2)] = levels[T.ramp(2 * d, 1, 2)]

    @T.inline
    def store_value(block, h, offset, row, column, X, V):
        levels = T.alloc_buffer((head_dim,), "int8")
        quantize(block, h, offset, row, column, X, V, levels)
        for d in T.serial(head_dim):
            V[block, h, (offset // 2 * head_dim + d) * 2 + offset % 2] = levels[d]

    return Stores(store_key, store_value)
