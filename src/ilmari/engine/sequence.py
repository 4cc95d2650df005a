"""One sequence on its way through the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ilmari.engine.drafter import Drafter
from ilmari.engine.logit_rules import LogitRules
from ilmari.engine.logprobs import TokenLogprob
from ilmari.engine.prefix_chain import PrefixChain
from ilmari.engine.sampling_params import SamplingParams

FinishReason = Literal["stop", "length", "abort"]


@dataclass(eq=False)  # two sequences are never the same one, whatever they hold
class Sequence:
    """Tokens known so far, and what belongs to them.

    tokens: the prompt, then what was generated. computed: how many of them are in the KV cache, in `blocks`. inv_freq
    is fixed when the sequence starts, so that all its keys share one rotary base. max_len: prompt and output together.
    cached_tokens: of the prompt, found in the cache when the sequence started. named: blocks that others can find.
    preemptions: how often it had to give its blocks back. logprobs: of each generated token, if wanted;
    prompt_logprobs: of each prompt token, None for the first. rules: what changes the logits before a token is drawn,
    None if nothing does.
    """

    id: int
    tokens: list[int]
    prompt_len: int
    max_len: int
    params: SamplingParams
    stop_ids: frozenset[int]
    inv_freq: NDArray[np.float32]
    rng: np.random.Generator
    cache_salt: str = ""
    drafter: Drafter = field(default_factory=Drafter)
    computed: int = 0
    blocks: list[int] = field(default_factory=list)
    named: int = 0
    cached_tokens: int = 0
    preemptions: int = 0
    logprobs: list[list[TokenLogprob]] = field(default_factory=list)
    prompt_logprobs: list[list[TokenLogprob] | None] = field(default_factory=list)
    rules: LogitRules | None = None
    finish_reason: FinishReason | None = None

    def __post_init__(self) -> None:
        self.chain = PrefixChain(self.cache_salt, self.inv_freq)

    @property
    def output(self) -> list[int]:
        """Generated token ids."""
        return self.tokens[self.prompt_len :]

    @property
    def pending(self) -> int:
        """Tokens that are known and not yet in the KV cache."""
        return len(self.tokens) - self.computed

    @property
    def end(self) -> FinishReason | None:
        """Why its last token, a generated one, ends it, if it does."""
        if self.tokens[-1] in self.stop_ids:
            return "stop"
        return "length" if len(self.tokens) == self.max_len else None

    def outputs(self, count: int) -> int:
        """For how many of the next `count` tokens, the last ones, logits are wanted: the last known token's, and those
        by which the prompt's next tokens are to be scored."""
        end = self.computed + count
        if 0 < len(self.prompt_logprobs) < self.prompt_len:
            return max(0, end - max(self.computed, len(self.prompt_logprobs) - 1))
        return int(end == len(self.tokens))
