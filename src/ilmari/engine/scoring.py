"""Whole logits as messages, for who asks for them from another process."""

from __future__ import annotations

from collections.abc import Iterator

from ilmari.engine.engine import Engine
from ilmari.engine.messages import Logits, Score
from ilmari.errors import RequestError

_MOST_BYTES = 1 << 28  # of one message


def score(engine: Engine, message: Score) -> Iterator[Logits]:
    """The answers to a request for logits, the last one without rows."""
    error = None
    try:
        for logits in engine.stream_logits(message.token_ids, message.last):
            rows = max(1, _MOST_BYTES // (4 * logits.shape[1]))
            for start in range(0, len(logits), rows):
                piece = logits[start : start + rows]
                yield Logits(piece.tobytes(), step=start + rows >= len(logits))
    except RequestError as refusal:
        error = str(refusal)
    yield Logits(None, error=error)
