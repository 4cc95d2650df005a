"""What the ranks of a tensor-parallel group do together.

Every call is a collective: each rank makes the same calls in the same order, with arrays of the same shapes.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Group(Protocol):
    """Ranks that hold one model together; rank 0 speaks with the outside."""

    @property
    def rank(self) -> int:
        """This rank, 0 to size - 1."""

    @property
    def size(self) -> int:
        """How many ranks there are."""

    @property
    def local_size(self) -> int:
        """How many of them are on this machine."""

    def all_reduce(self, array: NDArray[np.float32]) -> None:
        """Replace a contiguous array by its sum over the ranks, with the same bits on each."""

    def gather(self, array: NDArray[Any]) -> list[NDArray[Any]] | None:
        """Every rank's array, by rank, for rank 0; None for the others.

        The arrays are contiguous, and shapes and dtypes, which may be structured, are alike on all ranks.
        """

    def broadcast(self, data: bytes | None) -> bytes:
        """Rank 0's `data`, for every rank; the others give None.

        Raises:
            GroupError: the group was abandoned.
        """

    def abandon(self) -> None:
        """Have the other ranks end at once, wherever they are."""


class _Alone:
    rank = 0
    size = 1
    local_size = 1

    def all_reduce(self, array: NDArray[np.float32]) -> None:
        pass

    def gather(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        return [array]

    def broadcast(self, data: bytes | None) -> bytes:
        assert data is not None
        return data

    def abandon(self) -> None:
        pass


ALONE: Group = _Alone()
"""A group of one."""
