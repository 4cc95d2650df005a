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
    """[rows, k] to [rows/block, k/k_step, block*k_step]: what one register tile reads in one step lies side by side.

    `rows` is a multiple of the block; `weight` may be part of a matrix, whole blocks of its rows.
    """
    rows, k = weight.shape
    tiles = weight.reshape(rows // shape.block, shape.block, k // shape.k_step, shape.k_step)
    return np.ascontiguousarray(tiles.transpose(0, 2, 1, 3)).reshape(rows // shape.block, *shape.packed[1:])
