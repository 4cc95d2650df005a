"""Activations to 16-bit integers, one scale per token, in the byte order that `linear_int8` reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tvm.script import tirx as T

from ilmari.kernels.isa import Isa, fma
from ilmari.kernels.numeric import lane_max
from ilmari.kernels.plan import QUANTIZED_CHUNK as CHUNK
from ilmari.kernels.schedule import PARALLEL_ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tvm.tirx import PrimFunc

LEVELS = 32767  # symmetric: the largest magnitude of a row becomes this


def quantize_rows(isa: Isa, k: int) -> PrimFunc:
    """q = round(X / scale) + 32768, scale[m] = max |X[m]| / 32767

    X is [m, k] float32, Q is [m, k/16, 2, 16] uint8: of sixteen values the high bytes, then the low bytes.
    """
    lanes = isa.lanes
    if lanes != CHUNK:
        raise AssertionError("only for instruction sets with byte dot products, whose vectors hold 16 numbers")

    @T.inline
    def row(i, X, Q, scale):
        largest = T.alloc_buffer((lanes,), "float32", scope="local", annotations={"disable_lower_builtin": True})
        largest[T.ramp(0, 1, lanes)] = T.broadcast(T.float32(0), lanes)
        for j in T.serial(k // lanes):
            value: T.let = X[i, T.ramp(j * lanes, 1, lanes)]
            largest[T.ramp(0, 1, lanes)] = T.max(largest[T.ramp(0, 1, lanes)], T.max(value, -value))
        magnitude: T.let = lane_max(largest, lanes)
        scale[i] = magnitude / T.float32(LEVELS)
        inverse: T.let = T.float32(LEVELS) / T.max(magnitude, T.float32(1e-30))
        factor: T.let = T.Select(magnitude > T.float32(0), inverse, T.float32(0))
        for j in T.serial(k // lanes):
            # The cast truncates, and everything is positive here: this rounds to the nearest.
            level: T.let = fma(
                isa,
                X[i, T.ramp(j * lanes, 1, lanes)],
                T.broadcast(factor, lanes),
                T.broadcast(T.float32(32768.5), lanes),
            )
            q: T.let = T.cast(level, f"int32x{lanes}")
            Q[i, j, 0, T.ramp(0, 1, lanes)] = T.cast(q >> T.broadcast(T.int32(8), lanes), f"uint8x{lanes}")
            Q[i, j, 1, T.ramp(0, 1, lanes)] = T.cast(q & T.broadcast(T.int32(255), lanes), f"uint8x{lanes}")

    @T.prim_func
    def kernel(x: T.handle, q: T.handle, s: T.handle):
        m = T.int32()
        X = T.match_buffer(x, (m, k), "float32")
        Q = T.match_buffer(q, (m, k // CHUNK, 2, CHUNK), "uint8")
        scale = T.match_buffer(s, (m,), "float32")
        if m < PARALLEL_ROWS:
            for i in T.serial(m):
                row(i, X, Q, scale)
        else:
            for i in T.parallel(m):
                row(i, X, Q, scale)

    return kernel


def quantize_rows_reference(x: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The signed 16-bit integers [m, k] and the scales [m] that `quantize_rows` stores."""
    scale = np.abs(x).max(axis=1).astype(np.float64) / LEVELS
    return np.rint(x / np.where(scale > 0, scale, 1)[:, None]).astype(np.int64), scale


def unpack_rows(q: NDArray[np.uint8]) -> NDArray[np.int64]:
    """[m, k/16, 2, 16] bytes back to signed 16-bit integers [m, k]."""
    wide = q.astype(np.int64)
    return (wide[:, :, 0] * 256 + wide[:, :, 1] - 32768).reshape(len(q), -1)
