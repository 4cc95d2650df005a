"""One sequence on its way through the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ilmari.engine.logprobs import TokenLogprob
from ilmari.engine.sampling_params import SamplingParams

FinishReason = Literal["stop", "length", "abort"]


@dataclass(eq=False)  # two sequences are never the same one, whatever they hold
class Sequence:
    """Tokens known so far, and what belongs to them.

    tokens: the prompt, then what was generated. computed: how many of them are in the KV cache. inv_freq is fixed when
    the sequence starts, so that all its keys share one rotary base. max_len: prompt and output together. cached_tokens:
    of the prompt, found in the cache when the sequence started. prompt_logprobs: None for the first token; empty unless
    asked for.
    """

    id: int
    tokens: list[int]
    prompt_len: int
    max_len: int
    params: SamplingParams
    stop_ids: frozenset[int]
    inv_freq: NDArray[np.float32]
    rng: np.random.Generator
    computed: int = 0
    blocks: list[int] = field(default_factory=list)
    cached_tokens: int = 0
    prompt_logprobs: list[list[TokenLogprob] | None] = field(default_factory=list)
    logprobs: list[list[TokenLogprob]] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    @property
    def output(self) -> list[int]:
        """Generated token ids."""
        return self.tokens[self.prompt_len :]

    @property
    def pending(self) -> int:
        """Tokens that are known and not yet in the KV cache."""
        return len(self.tokens) - self.computed
