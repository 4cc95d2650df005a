"""How attention cuts its work, known to those who call the kernel and to those who write it."""


def tile_tokens(q_per_kv: int) -> int:
    """Tokens in a prefill tile: as many as give about eight rows, one for each query head of a KV head."""
    return max(1, 8 // q_per_kv)
