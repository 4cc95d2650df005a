"""What an engine sent for one request, until somebody reads it."""

from __future__ import annotations

import asyncio

from ilmari.engine.messages import Delta


class Mailbox:
    """Holds at most one delta: what a slow reader has not taken grows into that."""

    def __init__(self) -> None:
        self._delta: Delta | None = None
        self._ended = False
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    def put(self, delta: Delta) -> None:
        """Add what one step brought."""
        self._delta = delta if self._delta is None else self._delta.followed_by(delta)
        self._changed.set()

    def discard(self) -> None:
        """Nobody wants what was not read, nor anything more."""
        self._delta = None
        self._ended = True
        self._changed.set()

    def fail(self, error: Exception) -> None:
        """Nothing more will come, because of `error`; what was not read can be read."""
        self._error = error
        self._changed.set()

    async def get(self) -> Delta | None:
        """Everything that came since the last call, waited for; None after `discard`.

        Raises:
            Exception: the one of `fail`.
        """
        await self._changed.wait()
        if self._ended:
            return None
        delta, self._delta = self._delta, None
        if delta is not None:
            if self._error is None:
                self._changed.clear()
            return delta
        assert self._error is not None
        raise self._error
