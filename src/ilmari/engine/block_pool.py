"""Which blocks of the KV cache are in use, and what the others still hold."""

from collections import OrderedDict
from collections.abc import Iterable


class BlockPool:
    """Blocks 0 to `blocks` - 1. Each is used by some sequences, or free.

    A block that is full may have a name, which says what it holds (see `PrefixChain`). A free block keeps its name and
    its contents until it is needed for something else, so that a sequence that begins alike can use it again.
    """

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self._users = [0] * blocks
        self._names: list[bytes | None] = [None] * blocks
        self._named: dict[bytes, int] = {}
        self._free = OrderedDict[int, None].fromkeys(range(blocks))  # the next to be taken first

    @property
    def free(self) -> int:
        """Blocks that nobody uses, those with a name included."""
        return len(self._free)

    def is_free(self, block: int) -> bool:
        """Whether nobody uses it."""
        return block in self._free

    def find(self, names: Iterable[bytes]) -> list[int]:
        """The blocks of the first names, up to the first that no block has; they are not taken yet."""
        found = []
        for name in names:
            if name not in self._named:
                break
            found.append(self._named[name])
        return found

    def share(self, blocks: Iterable[int]) -> None:
        """Use blocks that were found."""
        for block in blocks:
            self._free.pop(block, None)
            self._users[block] += 1

    def allocate(self, count: int) -> list[int]:
        """Take free blocks, those without a name first, then the longest unused; there must be enough."""
        assert count <= self.free
        taken = [self._free.popitem(last=False)[0] for _ in range(count)]
        for block in taken:
            self._users[block] = 1
            name = self._names[block]
            if name is not None:
                del self._named[name]
                self._names[block] = None
        return taken

    def name(self, block: int, name: bytes) -> None:
        """Say what a block in use holds; of two that hold the same, the first has the name."""
        assert self._users[block]
        if name not in self._named and self._names[block] is None:
            self._names[block] = name
            self._named[name] = block

    def release(self, blocks: list[int]) -> None:
        """A sequence uses its blocks no more. Its last ones are to be lost first: the others are of use without."""
        for block in reversed(blocks):
            self._users[block] -= 1
            if not self._users[block]:
                self._free[block] = None
                self._free.move_to_end(block, last=self._names[block] is not None)
