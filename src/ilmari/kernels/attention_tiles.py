"""How attention cuts its work, known to those who call the kernels and to those who write them."""

TILE_ROWS = 128
"""Rows of a prefill tile: its tokens times the query heads of one KV head."""

CHUNK = 128
"""Keys that a prefill tile walks at a time."""

SEGMENT = 256
"""Keys that one task of decoding reads, and a softmax of their own."""


def tile_tokens(q_per_kv: int) -> int:
    """Tokens in a prefill tile."""
    return max(1, TILE_ROWS // q_per_kv)
