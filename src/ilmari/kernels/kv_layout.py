"""How the KV cache lies in memory."""

BLOCK_SIZE = 16
"""Tokens in a block of the KV cache; a block belongs to one sequence."""


def key_shape(blocks: int, kv_heads: int, head_dim: int) -> tuple[int, int, int, int]:
    """[blocks, kv_heads, head_dim, 16]: with 16 keys side by side, a vector holds one score of each."""
    return blocks, kv_heads, head_dim, BLOCK_SIZE


def value_shape(blocks: int, kv_heads: int, head_dim: int) -> tuple[int, int, int, int]:
    """[blocks, kv_heads, 16, head_dim]: a vector holds one value's neighbouring features."""
    return blocks, kv_heads, BLOCK_SIZE, head_dim
