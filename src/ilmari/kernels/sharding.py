"""How tensor-parallel ranks share a model: which heads, feed-forward columns and tokens each of them has.

All ranks have the same shapes, so that one set of kernels serves each of them, and what is left over is zeros. Query
heads stay with their KV head. A rank has places for KV heads, each with room for some of the KV head's query heads;
a KV head whose query heads need several places has a copy of itself in each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from ilmari.kernels.form import GROUP
from ilmari.model.config import ModelConfig


@dataclass(frozen=True)
class Sharding:
    """A model shared by ranks 0 to `ranks` - 1."""

    config: ModelConfig
    ranks: int

    @property
    def even(self) -> bool:
        """Whether each rank has as many whole KV heads as the others: none is copied, and no head is zeros."""
        return self.config.num_key_value_heads % self.ranks == 0

    @cached_property
    def local(self) -> ModelConfig:
        """One rank's part as a model of its own, zeros included."""
        columns = -(-self.config.intermediate_size // self.ranks)
        # Whole groups of inputs, so that activations of eight bits have the same scales with any number of ranks.
        columns = min(-(-columns // GROUP) * GROUP, self.config.intermediate_size)
        return replace(
            self.config,
            num_attention_heads=self._places(self._room) * self._room,
            num_key_value_heads=self._places(self._room),
            intermediate_size=columns,
            vocab_size=-(-self.config.vocab_size // self.ranks),
        )

    @cached_property
    def _room(self) -> int:
        """Query heads in a place: so many that a rank's attention has the smallest matrices, and then cache.

        A query head has columns in q and o, a place has columns in k and v.
        """
        rooms = range(1, self.config.q_per_kv + 1)
        return min(rooms, key=lambda room: (self._places(room) * (room + 1), self._places(room)))

    def _copies(self, room: int) -> int:
        """Places that one KV head takes."""
        return -(-self.config.q_per_kv // room)

    def _places(self, room: int) -> int:
        """Places of a rank."""
        return -(-self.config.num_key_value_heads * self._copies(room) // self.ranks)

    def kv_heads(self, rank: int) -> list[int | None]:
        """The KV head in each place of a rank; None is zeros."""
        return [kv_head for kv_head, _ in self._filled(rank)]

    def q_heads(self, rank: int) -> list[int | None]:
        """A rank's query heads, place by place; None is zeros."""
        return [heads[i] if i < len(heads) else None for _, heads in self._filled(rank) for i in range(self._room)]

    def _filled(self, rank: int) -> Iterator[tuple[int | None, range]]:
        """What is in each place of a rank: a KV head and some of its query heads."""
        count, copies = self.local.num_key_value_heads, self._copies(self._room)
        for place in range(rank * count, (rank + 1) * count):
            kv_head, copy = divmod(place, copies)
            if kv_head < self.config.num_key_value_heads:
                heads = range(kv_head * self.config.q_per_kv, (kv_head + 1) * self.config.q_per_kv)
                yield kv_head, heads[copy * self._room : (copy + 1) * self._room]
            else:
                yield None, range(0)

    def columns(self, rank: int) -> range:
        """A rank's columns of the feed-forward block; the last ranks may have fewer than `local` says, or none."""
        return _part(self.config.intermediate_size, self.local.intermediate_size, rank)

    def tokens(self, rank: int) -> range:
        """A rank's rows of the embedding and of the head; the last ranks may have fewer, or none."""
        return _part(self.config.vocab_size, self.local.vocab_size, rank)


def _part(whole: int, size: int, rank: int) -> range:
    return range(whole)[rank * size : (rank + 1) * size]
