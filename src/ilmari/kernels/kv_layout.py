"""How the KV cache lies in memory: in blocks of 16 tokens, in each of them head by head.

Keys lie side by side, so that a vector holds one score of each; of a value neighbouring features do. int8 has a scale
for each token and head, and its numbers lie by twos, as products of 16-bit integers are summed: two features of a key,
the same feature of two values. The scales of a head in a block follow its numbers.
"""

import numpy as np

BLOCK_SIZE = 16
"""Tokens in a block of the KV cache; a block belongs to one sequence."""

SCALE_BYTES = 4
"""float32: float16 would save 1.5% of the bytes, and has not the range of what it scales."""

LEVELS = 127
"""The largest int8 number in use; its negative is the smallest."""


def key_shape(dtype: str, blocks: int, kv_heads: int, head_dim: int) -> tuple[int, ...]:
    """float16: [blocks, kv_heads, head_dim, 16]. int8: [blocks, kv_heads, bytes] of [head_dim/2, 16, 2] and scales."""
    return (blocks, kv_heads, *((head_dim, BLOCK_SIZE) if dtype == "float16" else (block_bytes(dtype, head_dim),)))


def value_shape(dtype: str, blocks: int, kv_heads: int, head_dim: int) -> tuple[int, ...]:
    """float16: [blocks, kv_heads, 16, head_dim]. int8: [blocks, kv_heads, bytes] of [8, head_dim, 2] and scales."""
    return (blocks, kv_heads, *((BLOCK_SIZE, head_dim) if dtype == "float16" else (block_bytes(dtype, head_dim),)))


def block_bytes(dtype: str, head_dim: int) -> int:
    """Bytes of one head's keys, or of its values, in a block."""
    return BLOCK_SIZE * token_bytes(dtype, head_dim)


def token_bytes(dtype: str, head_dim: int) -> int:
    """Bytes of one key or value of one head, its scale included."""
    return head_dim * np.dtype(dtype).itemsize + (SCALE_BYTES if dtype == "int8" else 0)
