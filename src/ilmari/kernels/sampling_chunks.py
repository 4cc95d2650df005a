"""How kernels that sample cut up a vocabulary: into chunks by token id, and into bins by how probable tokens are."""

CHUNK = 256
"""Tokens in a chunk."""

BINS = 256
"""Bins from the best token down; the last one has everything below the others."""

PARTS = 8
"""Runs of chunks whose bins are counted apart, each by one thread."""

LOWEST = -3.4028234663852886e38
"""The logit of what is no token, in the last chunk: the least float32, whose weight is 0."""


def chunks(vocab: int) -> int:
    """Chunks of a vocabulary, the last one perhaps not full of tokens."""
    return -(-vocab // CHUNK)
