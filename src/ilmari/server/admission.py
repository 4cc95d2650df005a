"""Who may come in: a bounded number of replies, and none any more once the server is to end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ilmari.server.errors import ApiError


class Admission:
    """Counts replies from admission to their end, whether they run or wait in an engine."""

    def __init__(self, most: int) -> None:
        """most: when that many are in, nobody else is let in; the last one in may bring more."""
        self._most = most
        self._inside = 0
        self.draining = False

    @contextmanager
    def admit(self, replies: int) -> Iterator[None]:
        """Let a request in for as long as the block lasts.

        Raises:
            ApiError: the queue is full, 429, or the server is to end, 503.
        """
        if self.draining:
            raise ApiError(503, "The server is shutting down; ask another.", code="draining")
        if self._inside >= self._most:
            raise ApiError(429, "The server has as many requests as it takes; try again later.", code="queue_full")
        self._inside += replies
        try:
            yield
        finally:
            self._inside -= replies
