"""Weights in the order in which kernels read them."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ilmari.kernels.plan import LinearShape

Number = TypeVar("Number", bound=np.generic)


def pad(array: NDArray[Number], *sizes: int) -> NDArray[Number]:
    """`array` with zeros appended up to `sizes`."""
    missing = [(0, size - have) for size, have in zip(sizes, array.shape, strict=True)]
    return np.pad(array, missing) if any(after for _, after in missing) else array


def pack(weight: NDArray[Any], shape: LinearShape) -> NDArray[Any]:
    """[rows, k] to [rows/block, k, block]: what one register tile reads in one step lies side by side.

    `rows` is a multiple of the block; `weight` may be part of a matrix, whole blocks of its rows.
    """
    rows, k = weight.shape
    tiles = weight.reshape(rows // shape.block, shape.block, k)
    return np.ascontiguousarray(tiles.transpose(0, 2, 1))


def pack_bytes(weight: NDArray[np.int8], shape: LinearShape, offset: int) -> NDArray[np.uint8]:
    """[rows, k] to [rows/block, k/s, block*s], `offset`, 128 or 0, added: s inputs of a channel, then of the next.

    s is `shape.k_step`. A run of inputs is in the order 0, h, 1, h+1, ..., where h is half a run: see `kernels.form`.
    """
    rows, k = weight.shape
    step = shape.k_step
    stored = weight.view(np.uint8) ^ np.uint8(offset)
    runs = stored.reshape(rows // shape.block, shape.block, k // shape.run, 2, shape.run // step, step // 2)
    return np.ascontiguousarray(runs.transpose(0, 2, 4, 1, 5, 3)).reshape(rows // shape.block, *shape.packed[1:])
