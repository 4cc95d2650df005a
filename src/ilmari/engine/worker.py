"""The requests of the front end as sequences of the engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from ilmari.engine.engine import Engine
from ilmari.engine.messages import Delta, Submit
from ilmari.engine.sequence import Sequence
from ilmari.errors import ArtifactError, RequestError


@dataclass
class _Followed:
    """A sequence, and how many of its tokens the front end was told of; it is told of the prompt with the first."""

    request_id: str
    sequence: Sequence
    told: int = 0
    begun: bool = False

    @property
    def has_news(self) -> bool:
        """Whether there is anything to tell."""
        return self.sequence.finish_reason is not None or len(self.sequence.output) > self.told

    def news(self) -> Delta:
        """What the front end was not told yet."""
        sequence, first = self.sequence, not self.begun
        tokens = sequence.tokens[sequence.prompt_len + self.told :]
        logprobs = sequence.logprobs[self.told :] if sequence.params.logprobs is not None else None
        self.told += len(tokens)
        self.begun = True
        return Delta(
            self.request_id,
            tokens,
            logprobs,
            (sequence.prompt_logprobs or None) if first else None,
            sequence.cached_tokens if first else 0,
            sequence.finish_reason,
        )


class Worker:
    """Follows every request from its submission to its end."""

    def __init__(self, engine: Engine, stop_ids: frozenset[int]) -> None:
        """`stop_ids`: the model's own, for requests that do not ignore them."""
        self._engine = engine
        self._stop_ids = stop_ids
        self._by_request: dict[str, _Followed] = {}
        self._by_sequence: dict[int, _Followed] = {}

    def submit(self, message: Submit) -> list[Delta]:
        """Queue a request; what there is to tell if it ends here already, refused or with no room for a token."""
        try:
            sequence = self._engine.add(message.prompt, message.params, self._stop_ids, cache_salt=message.cache_salt)
        except RequestError as error:
            return [Delta(message.request_id, error=str(error))]
        followed = _Followed(message.request_id, sequence)
        self._by_request[message.request_id] = self._by_sequence[sequence.id] = followed
        return self._tell([followed]) if sequence.finish_reason else []

    def finish(self, request_id: str) -> None:
        """End a request that nobody waits for; one that has ended already is left."""
        if followed := self._by_request.get(request_id):
            self._engine.finish(followed.sequence, "abort")
            self._forget(followed)

    def step(self) -> list[Delta]:
        """Run one batch and tell what it added to whom."""
        try:
            return self._tell([self._by_sequence[sequence.id] for sequence in self._engine.step()])
        except ArtifactError as error:
            # One sequence has ended in the middle of the step; others may have their tokens already.
            deltas = self._tell(followed for followed in self._by_sequence.values() if followed.has_news)
            return [replace(delta, error=str(error)) if delta.finish_reason == "abort" else delta for delta in deltas]

    def _tell(self, some: Iterable[_Followed]) -> list[Delta]:
        some = list(some)
        deltas = [followed.news() for followed in some]
        for followed in some:
            if followed.sequence.finish_reason:
                self._forget(followed)
        return deltas

    def _forget(self, followed: _Followed) -> None:
        del self._by_request[followed.request_id]
        del self._by_sequence[followed.sequence.id]
