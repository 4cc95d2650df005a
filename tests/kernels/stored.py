"""Blocks of the cache written and read in NumPy, a token at a time, in either dtype."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilmari.kernels.kv_layout import BLOCK_SIZE, key_shape, value_shape

DTYPES = ("float16", "int8")

Array = NDArray[Any]


def empty_cache(dtype: str, blocks: int, kv_heads: int, head_dim: int) -> tuple[Array, Array]:
    """Keys and values; every bit is set, so that each float16 number, and each scale of int8 ones, is NaN."""
    keys, values = (np.zeros(shape(dtype, blocks, kv_heads, head_dim), dtype) for shape in (key_shape, value_shape))
    for array in (keys, values):
        array.view(np.uint8)[...] = 0xFF
    return keys, values


def is_empty(cache: Array) -> bool:
    """Whether nothing was ever written."""
    return bool((cache.view(np.uint8) == 0xFF).all())


def quantized(x: Array) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Levels [..., head_dim] and scales [...] of int8: the largest magnitude is 127, halves go to even."""
    scale = (np.abs(x).max(axis=-1) / 127).astype(np.float32)
    with np.errstate(invalid="ignore"):
        levels = np.where(scale[..., None] > 0, np.rint(x.astype(np.float64) / scale[..., None]), 0)
    return np.clip(levels, -127, 127).astype(np.int8), scale


def representable(dtype: str, x: Array) -> NDArray[np.float64]:
    """x [..., head_dim] rounded to what a cache of `dtype` can hold."""
    if dtype == "float16":
        return x.astype(np.float16).astype(np.float64)
    levels, scale = quantized(x)
    return levels * scale[..., None].astype(np.float64)


def write_token(keys: Array, values: Array, slot: int, key: Array, value: Array) -> None:
    """A token's key and value [kv_heads, head_dim] in slot block * 16 + offset."""
    block, offset = divmod(slot, BLOCK_SIZE)
    if keys.dtype == np.float16:
        keys[block, :, :, offset], values[block, :, offset] = key, value
        return
    key_pairs, key_scales = _int8_parts(keys[block], (-1, BLOCK_SIZE, 2))
    value_pairs, value_scales = _int8_parts(values[block], (BLOCK_SIZE // 2, -1, 2))
    levels, key_scales[:, offset] = quantized(key)
    key_pairs[:, :, offset] = levels.reshape(len(levels), -1, 2)
    value_pairs[:, offset // 2, :, offset % 2], value_scales[:, offset] = quantized(value)


def take_token(keys: Array, values: Array, slot: int) -> tuple[Array, ...]:
    """A token's key and value [kv_heads, head_dim], of int8 their scales [kv_heads] as well, and empty its slot."""
    block, offset = divmod(slot, BLOCK_SIZE)
    if keys.dtype == np.float16:
        places = [keys[block, :, :, offset], values[block, :, offset]]
        found = [place.copy() for place in places]
    else:
        key_pairs, key_scales = _int8_parts(keys[block], (-1, BLOCK_SIZE, 2))
        value_pairs, value_scales = _int8_parts(values[block], (BLOCK_SIZE // 2, -1, 2))
        places = [key_pairs[:, :, offset], value_pairs[:, offset // 2, :, offset % 2]]
        places += [key_scales[:, offset], value_scales[:, offset]]
        found = [place.copy() for place in places]
        found[0] = found[0].reshape(len(found[0]), -1)
    for place in places:
        place[...] = np.full(1, -1, f"i{place.itemsize}").view(place.dtype)
    return tuple(found)


def _int8_parts(block: Array, shape: tuple[int, ...]) -> tuple[Array, NDArray[np.float32]]:
    """Numbers [kv_heads, *shape] and scales [kv_heads, 16] of a block, as views."""
    end = block.shape[1] - 4 * BLOCK_SIZE
    one = block[0, :end].reshape(shape)  # reshaping all heads at once would make a copy
    all_heads = np.lib.stride_tricks.as_strided(one, (len(block), *one.shape), (block.strides[0], *one.strides))
    return all_heads, block[:, end:].view(np.float32)
