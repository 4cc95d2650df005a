"""Vectors of cached keys and values as TIR expressions, whichever dtype the cache has (see `kv_layout`).

`block`, `h`: a block of the cache and a KV head. Where the cache is int8 nothing is multiplied by its scale yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm.script import tirx as T

from ilmari.kernels.isa import Isa
from ilmari.kernels.kv_layout import BLOCK_SIZE, SCALE_BYTES
from ilmari.kernels.numeric import widen

if TYPE_CHECKING:
    from tvm.tirx import Buffer, PrimExpr


def key_feature(isa: Isa, K: Buffer, block: PrimExpr, h: PrimExpr, d: PrimExpr, key: PrimExpr) -> PrimExpr:
    """Feature d of keys `key` and on of a block, float32."""
    if K.dtype == "float16":
        return widen(isa, K[block, h, d, T.ramp(key, 1, isa.lanes)], "float16")
    return _one_of_two(isa, K[block, h, T.ramp((d // 2 * BLOCK_SIZE + key) * 2, 1, 2 * isa.lanes)], d % 2)


def value_part(isa: Isa, V: Buffer, block: PrimExpr, h: PrimExpr, token: PrimExpr, feature: PrimExpr) -> PrimExpr:
    """Features `feature` and on of one value of a block, float32."""
    if V.dtype == "float16":
        return widen(isa, V[block, h, token, T.ramp(feature, 1, isa.lanes)], "float16")
    head_dim = int(V.shape[2]) // BLOCK_SIZE - SCALE_BYTES
    return _one_of_two(isa, V[block, h, T.ramp((token // 2 * head_dim + feature) * 2, 1, 2 * isa.lanes)], token % 2)


def _one_of_two(isa: Isa, pairs: PrimExpr, second: PrimExpr) -> PrimExpr:
    """The first or second of the two bytes in each lane, float32."""
    lanes = isa.lanes
    wide = T.cast(T.reinterpret(pairs, dtype=f"int16x{lanes}"), f"int32x{lanes}")
    wide = (wide << T.broadcast(24 - 8 * second, lanes)) >> T.broadcast(T.int32(24), lanes)
    return T.cast(wide, f"float32x{lanes}")


def words(isa: Isa, cache: Buffer, block: PrimExpr, h: PrimExpr, pair: PrimExpr) -> PrimExpr:
    """A vector of pairs of int8 from pair number `pair` on of a head in a block, int16."""
    return T.cast(cache[block, h, T.ramp(pair * 2, 1, 2 * isa.lanes)], f"int16x{2 * isa.lanes}")


def scales(isa: Isa, cache: Buffer, block: PrimExpr, h: PrimExpr, token: PrimExpr) -> PrimExpr:
    """The scales of tokens `token` and on of a block."""
    start = int(cache.shape[2]) - (BLOCK_SIZE - token) * SCALE_BYTES
    return T.reinterpret(cache[block, h, T.ramp(start, 1, isa.lanes * SCALE_BYTES)], dtype=f"float32x{isa.lanes}")


def scale_of(cache: Buffer, block: PrimExpr, h: PrimExpr, token: PrimExpr) -> PrimExpr:
    """The scale of one token of a block."""
    start = int(cache.shape[2]) - (BLOCK_SIZE - token) * SCALE_BYTES
    return T.reinterpret(cache[block, h, T.ramp(start, 1, SCALE_BYTES)], dtype="float32")
