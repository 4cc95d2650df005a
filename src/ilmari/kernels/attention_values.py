"""Sums of values in prefill attention, weights times values: in float32, or in 16-bit integers where those are faster.

As integers a value keeps 13 bits and a sign, which its largest feature fills, or is int8 as it is; its scale goes into
the weight. A row's weights are scaled anew for each chunk of keys, so that the largest fits into int16 and all of them
together, times the largest value, into int32. A value's error is at most 2^-14 of its largest feature; a weight's is
2^-16 of the largest in its chunk, or 2^-19 of their sum. If no feature is far larger than the others, that is less than
what a float16 cache loses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T

from ilmari.kernels.attention_product import PANEL, VECTORS, float_product, word_product
from ilmari.kernels.attention_tiles import CHUNK
from ilmari.kernels.isa import Isa, fma
from ilmari.kernels.kv_layout import BLOCK_SIZE, LEVELS
from ilmari.kernels.kv_read import scale_of, scales, value_part, words
from ilmari.kernels.numeric import SMALLEST, lane_max, lane_sum, round_even, word_pair

LARGEST_WEIGHT = 32767
LARGEST_VALUE = 8191


@dataclass(frozen=True)
class ValueSums:
    """Buffers and inline functions, for register tiles of `batch` rows.

    values [depth, PANEL] and weights [rows, CHUNK]: their dtypes; where these are float32 the softmax P itself is used.
    value_scale [1, CHUNK], float32, is what a value's integers are to be multiplied by, and part of its weights;
    weight_scale [rows, 1], what products are. Both are unused in float32.
    take_scales(block, at, count, h, V, value_scale): columns `at` and on are for a block's first `count` values.
    take_values(block, at, count, panel, h, V, value_scale, values): PANEL features of them, from panel * PANEL on.
    weigh(r, vectors, P, value_scale, weights, weight_scale): row r of the weights, from so many vectors of P[r].
    mix(row0, keys, panel, j0, P, weights, weight_scale, values, correction, O): the sums of batch rows from row0 on, of
    two vectors of features from panel * PANEL + j0 on, are added to O times its correction.
    """

    weight_dtype: str
    value_dtype: str
    depth: int
    take_scales: Any
    take_values: Any
    weigh: Any
    mix: Any


def value_sums(isa: Isa, kv_dtype: str, head_dim: int, batch: int) -> ValueSums:
    """The faster ones of an instruction set, for a cache of `kv_dtype`."""
    return _int16(isa, kv_dtype, head_dim, batch) if isa.fast_words else _float32(isa, kv_dtype, batch)


def _float32(isa: Isa, kv_dtype: str, batch: int) -> ValueSums:
    lanes, width, add = isa.lanes, VECTORS * isa.lanes, float_product(isa, batch)

    @T.inline
    def take_scales(block, at, count, h, V, value_scale):
        pass

    @T.inline
    def take_values(block, at, count, panel, h, V, value_scale, values):  # noqa: ARG001
        for i in T.serial(count):
            for j in T.unroll(PANEL // lanes):
                value: T.let = value_part(isa, V, block, h, i, panel * PANEL + j * lanes)
                if kv_dtype == "int8":
                    scale: T.let = T.broadcast(scale_of(V, block, h, i), lanes)
                    values[at + i, T.ramp(j * lanes, 1, lanes)] = value * scale
                else:
                    values[at + i, T.ramp(j * lanes, 1, lanes)] = value

    @T.inline
    def weigh(r, vectors, P, value_scale, weights, weight_scale):
        pass

    @T.inline
    def mix(row0, keys, panel, j0, P, weights, weight_scale, values, correction, O):  # noqa: ARG001
        acc = T.alloc_buffer((batch * width,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        for r in T.unroll(batch):
            for j in T.unroll(VECTORS):
                acc[T.ramp((r * VECTORS + j) * lanes, 1, lanes)] = (
                    O[row0 + r, T.ramp(panel * PANEL + j0 + j * lanes, 1, lanes)]
                    * correction[row0 + r, T.ramp(0, 1, lanes)]
                )
        add(keys, row0, j0, P, values, acc)
        for r in T.unroll(batch):
            for j in T.unroll(VECTORS):
                O[row0 + r, T.ramp(panel * PANEL + j0 + j * lanes, 1, lanes)] = acc[
                    T.ramp((r * VECTORS + j) * lanes, 1, lanes)
                ]

    return ValueSums("float32", "float32", CHUNK, take_scales, take_values, weigh, mix)


def _int16(isa: Isa, kv_dtype: str, head_dim: int, batch: int) -> ValueSums:
    lanes, width, multiply = isa.lanes, VECTORS * isa.lanes, word_product(isa, batch)
    largest_value = LEVELS if kv_dtype == "int8" else LARGEST_VALUE
    all_weights = (2**31 - 1) // largest_value - CHUNK  # each may be rounded up

    @T.inline
    def take_int8_scales(block, at, count, h, V, value_scale):
        for j in T.serial(BLOCK_SIZE // lanes):
            value_scale[0, T.ramp(at + j * lanes, 1, lanes)] = T.Select(
                T.ramp(j * lanes, 1, lanes) < T.broadcast(count, lanes),
                scales(isa, V, block, h, j * lanes),
                T.broadcast(T.float32(0), lanes),
            )

    @T.inline
    def take_float16_scales(block, at, count, h, V, value_scale):
        part = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        for i in T.serial(count):
            part[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(SMALLEST), lanes)
            for j in T.serial(head_dim // lanes):
                value: T.let = value_part(isa, V, block, h, i, j * lanes)
                part[T.ramp(0, 1, lanes)] = T.max(part[T.ramp(0, 1, lanes)], T.max(value, -value))
            value_scale[0, at + i] = lane_max(part, lanes) * T.float32(1 / LARGEST_VALUE)
        for i in T.serial(BLOCK_SIZE - count):
            value_scale[0, at + count + i] = T.float32(0)

    @T.inline
    def take_int8_values(block, at, count, panel, h, V, value_scale, values):  # noqa: ARG001
        for i in T.serial((count + 1) // 2):
            for j in T.unroll(PANEL // lanes):
                pairs: T.let = words(isa, V, block, h, i * head_dim + panel * PANEL + j * lanes)
                values[at // 2 + i, T.ramp(j * lanes, 1, lanes)] = T.reinterpret(pairs, dtype=f"int32x{lanes}")

    @T.inline
    def take_float16_values(block, at, count, panel, h, V, value_scale, values):
        """The same feature of two values lies side by side in a lane."""
        for i in T.serial((count + 1) // 2):
            first: T.let = T.broadcast(T.float32(1) / value_scale[0, at + 2 * i], lanes)
            # A value past the last one has no weight, and no scale.
            scale: T.let = T.max(value_scale[0, at + 2 * i + 1], T.float32(SMALLEST / LARGEST_VALUE))
            second: T.let = T.broadcast(T.float32(1) / scale, lanes)
            for j in T.unroll(PANEL // lanes):
                feature: T.let = panel * PANEL + j * lanes
                even: T.let = round_even(isa, value_part(isa, V, block, h, 2 * i, feature), first)
                odd: T.let = round_even(isa, value_part(isa, V, block, h, 2 * i + 1, feature), second)
                values[at // 2 + i, T.ramp(j * lanes, 1, lanes)] = word_pair(isa, even, odd)

    @T.inline
    def weigh(r, vectors, P, value_scale, weights, weight_scale):
        largest = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        total = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        largest[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(SMALLEST), lanes)
        total[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for j in T.serial(vectors):
            weight: T.let = P[r, T.ramp(j * lanes, 1, lanes)] * value_scale[0, T.ramp(j * lanes, 1, lanes)]
            largest[T.ramp(0, 1, lanes)] = T.max(largest[T.ramp(0, 1, lanes)], weight)
            total[T.ramp(0, 1, lanes)] = total[T.ramp(0, 1, lanes)] + weight
        scale: T.let = T.max(
            lane_max(largest, lanes) * T.float32(1 / LARGEST_WEIGHT),
            lane_sum(total, range(lanes)) * T.float32(1 / all_weights),
        )
        weight_scale[r, 0] = scale
        factor: T.let = T.broadcast(T.float32(1) / scale, lanes)
        for j in T.serial(vectors):
            weight: T.let = P[r, T.ramp(j * lanes, 1, lanes)] * value_scale[0, T.ramp(j * lanes, 1, lanes)]
            weights[r, T.ramp(j * lanes, 1, lanes)] = T.cast(round_even(isa, weight, factor), f"int16x{lanes}")

    @T.inline
    def mix(row0, keys, panel, j0, P, weights, weight_scale, values, correction, O):  # noqa: ARG001
        acc = T.alloc_buffer((batch * width,), "int32", scope="local", annotations={"disable_lower_builtin": True})
        multiply((keys + 1) // 2, row0, j0, weights, values, acc)
        for r in T.unroll(batch):
            for j in T.unroll(VECTORS):
                feature: T.let = panel * PANEL + j0 + j * lanes
                O[row0 + r, T.ramp(feature, 1, lanes)] = fma(
                    isa,
                    T.cast(acc[T.ramp((r * VECTORS + j) * lanes, 1, lanes)], f"float32x{lanes}"),
                    T.broadcast(weight_scale[row0 + r, 0], lanes),
                    O[row0 + r, T.ramp(feature, 1, lanes)] * correction[row0 + r, T.ramp(0, 1, lanes)],
                )

    take_scales, take_values = (
        (take_int8_scales, take_int8_values) if kv_dtype == "int8" else (take_float16_scales, take_float16_values)
    )
    return ValueSums("int16", "int32", CHUNK // 2, take_scales, take_values, weigh, mix)
