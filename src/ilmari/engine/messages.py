"""What crosses between the front end and the engine's process: plain data in MessagePack, checked when it is read."""

from __future__ import annotations

import msgspec

from ilmari.engine.logprobs import TokenLogprob
from ilmari.engine.sampling_params import SamplingParams
from ilmari.engine.sequence import FinishReason


class Submit(msgspec.Struct, frozen=True, tag=True):
    """Continue a prompt. Prompts with different `cache_salt` never share blocks of the KV cache."""

    request_id: str
    prompt: list[int]
    params: SamplingParams
    cache_salt: str = ""


class Finish(msgspec.Struct, frozen=True, tag=True):
    """End a request now, wherever it is: its text reached a stop string, or nobody waits for it any more."""

    request_id: str


class Delta(msgspec.Struct, frozen=True, tag=True):
    """What a step added to a request.

    token_ids: new ones, possibly none; logprobs: for each of them, if asked for; prompt_logprobs: once, with the first
    delta, None for the first token. cached_tokens: of the prompt, found in the prefix cache. finish_reason: set in the
    last delta. error: a sentence for the user; the request was refused, and this is its only delta.
    """

    request_id: str
    token_ids: list[int] = []
    logprobs: list[list[TokenLogprob]] | None = None
    prompt_logprobs: list[list[TokenLogprob] | None] | None = None
    cached_tokens: int = 0
    finish_reason: FinishReason | None = None
    error: str | None = None


class Stats(msgspec.Struct, frozen=True, tag=True):
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


class Step(msgspec.Struct, frozen=True, tag=True):
    """One step's deltas, and how the engine stands after it."""

    deltas: list[Delta]
    stats: Stats


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The engine has loaded its model and takes requests."""

    stats: Stats


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The engine cannot be started, by the user's mistake; the sentence says which."""

    error: str


ToEngine = Submit | Finish
FromEngine = Ready | Failed | Step
