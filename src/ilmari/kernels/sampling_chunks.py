"""How kernels that sample cut up a vocabulary."""

CHUNK = 256
"""Tokens in a chunk."""

STEPS = 3
"""Logits that are tried in a pass between the two where a ranking may be cut."""

LOWEST = -3.4028234663852886e38
"""The logit of what is no token, in the last chunk: the least float32, whose weight is 0."""


def chunks(vocab: int) -> int:
    """Chunks of a vocabulary, the last one perhaps not full of tokens."""
    return -(-vocab // CHUNK)
