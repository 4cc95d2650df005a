"""What crosses between the front end and the engine's process: plain data in MessagePack, checked when it is read."""

from __future__ import annotations

import msgspec

from ilmari.engine.logprobs import TokenLogprob
from ilmari.engine.options import EngineOptions, Placement
from ilmari.engine.sampling_params import SamplingParams
from ilmari.engine.sequence import FinishReason


class Start(msgspec.Struct, frozen=True, tag=True):
    """Load the artifact in a folder, its path as the system writes it; the first message, answered before any other."""

    folder: bytes
    options: EngineOptions
    placement: Placement = Placement()


class Submit(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Continue a prompt. Prompts with different `cache_salt` never share blocks of the KV cache."""

    request_id: str
    prompt: list[int]
    params: SamplingParams
    cache_salt: str = ""


class Finish(msgspec.Struct, frozen=True, tag=True):
    """End a request now, wherever it is: its text reached a stop string, or nobody waits for it any more."""

    request_id: str


class Score(msgspec.Struct, frozen=True, tag=True):
    """Compute the logits of a sequence, as `Engine.stream_logits`; while it lasts nothing else is computed."""

    token_ids: list[int]
    last: int | None = None


class Logits(msgspec.Struct, frozen=True, tag=True):
    """Whole rows of the logits that were asked for, float32 as bytes; `step`: a step's last ones. None: there are no
    more, and `error` says why there were none."""

    rows: bytes | None
    step: bool = False
    error: str | None = None


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one step, or several, added to a request.

    token_ids: new ones, possibly none; logprobs: for each of them, if asked for. In the first delta alone:
    prompt_logprobs, if asked for, None for the first token; and cached_tokens, of the prompt, found in the prefix
    cache. finish_reason: set in the last delta. error: a sentence for the user. It stands alone in the only delta of a
    request that was refused, and beside "abort" in the last one of a request that the model failed.
    """

    request_id: str
    token_ids: list[int] = []
    logprobs: list[list[TokenLogprob]] | None = None
    prompt_logprobs: list[list[TokenLogprob] | None] | None = None
    cached_tokens: int = 0
    finish_reason: FinishReason | None = None
    error: str | None = None

    @property
    def last(self) -> bool:
        """Whether the request ends here."""
        return self.finish_reason is not None or self.error is not None

    def followed_by(self, later: Delta) -> Delta:
        """Both as one."""
        return Delta(
            self.request_id,
            self.token_ids + later.token_ids,
            None if self.logprobs is None else self.logprobs + (later.logprobs or []),
            self.prompt_logprobs,
            self.cached_tokens,
            later.finish_reason,
            later.error,
        )


class Stats(msgspec.Struct, frozen=True, omit_defaults=True):
    """The engine after a step: sequences and KV blocks as they are, everything else counted since its start."""

    running: int = 0
    waiting: int = 0
    kv_blocks: int = 0
    kv_blocks_used: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    preemptions: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def kv_usage(self) -> float:
        """Share of the KV blocks in use, 0 to 1."""
        return self.kv_blocks_used / self.kv_blocks if self.kv_blocks else 0.0


class Step(msgspec.Struct, frozen=True, tag=True):
    """One step's deltas, and how the engine stands after it; also what follows a message when there is no work."""

    deltas: list[Delta]
    stats: Stats


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The engine has loaded its model and takes requests."""

    stats: Stats


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The engine cannot be started, by the user's mistake: the sentence, and which kind of `IlmariError` it is."""

    kind: str
    error: str


class Lost(msgspec.Struct, frozen=True, tag=True):
    """The engine's last words: which of its ranks is gone."""

    error: str


ToEngine = Start | Submit | Finish | Score
FromEngine = Ready | Failed | Step | Logits | Lost
