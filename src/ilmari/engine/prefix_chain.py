"""Names of a sequence's blocks, by which another sequence that begins alike finds them."""

from array import array
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from ilmari.kernels.kv_layout import BLOCK_SIZE

DIGEST_BYTES = 32


class PrefixChain:
    """A block's name is a digest of all that its keys and values depend on.

    That is its tokens, the name of the block before it, and for the first one the sequence's rotary frequencies. The
    salt keeps sequences apart that must not know of each other. Nobody can make two blocks of one name: BLAKE2b.
    """

    def __init__(self, salt: str, inv_freq: NDArray[np.float32]) -> None:
        """`inv_freq`: float32 [head_dim / 2]; `salt` is any text."""
        self._names = [_digest(inv_freq.tobytes(), salt.encode("utf-8", "surrogatepass"))]

    def names(self, tokens: list[int], blocks: int) -> list[bytes]:
        """The names of the first `blocks` blocks, which are full; a sequence's tokens only ever grow."""
        for index in range(len(self._names) - 1, blocks):
            block = array("i", tokens[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE])
            assert len(block) == BLOCK_SIZE
            self._names.append(_digest(self._names[index], block.tobytes()))
        return self._names[1 : blocks + 1]


def _digest(before: bytes, content: bytes) -> bytes:
    return blake2b(before + content, digest_size=DIGEST_BYTES).digest()
