"""What changes a sequence's logits before its next token is drawn: which tokens are allowed, biases and penalties.

The order is vLLM's. First the tokens that may not be drawn become impossible: by the grammar, by `allowed_token_ids`,
and stop tokens before `min_tokens`. A rule that would leave no token at all gives way to those before it. Then logits
change: `logit_bias`, the repetition penalty on prompt and output, frequency and presence penalties on the output.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence as Many
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ilmari.engine.sampling_params import SamplingParams

LARGEST = float(np.finfo(np.float32).max)


class Constraint(Protocol):
    """What a sequence may be, token by token."""

    def allowed(self, output: Many[int]) -> NDArray[np.bool_]:
        """Which tokens of the vocabulary may follow `output`, which grows from call to call."""


class LogitRules:
    """The rules of one sequence."""

    def __init__(
        self,
        params: SamplingParams,
        prompt: Many[int],
        stop_ids: Iterable[int],
        vocab_size: int,
        constraint: Constraint | None = None,
    ) -> None:
        """Prepare what stays the same; the parameters' token ids lie within the vocabulary."""
        self._params = params
        self._constraint = constraint
        self._allowed = None if params.allowed_token_ids is None else _only(params.allowed_token_ids, vocab_size)
        self._writing = ~_only(stop_ids, vocab_size) if params.min_tokens else None
        bias = params.logit_bias or {}
        self._bias_ids = np.array(list(bias), np.int64)
        self._bias = np.array(list(bias.values()), np.float64)
        self._prompt_ids = np.unique(np.array(prompt, np.int64)) if params.repetition_penalty != 1 else None
        self._penalised = bool(params.repetition_penalty != 1 or params.presence_penalty or params.frequency_penalty)
        self._counts: Counter[int] = Counter()
        self._counted = 0

    @staticmethod
    def needed(params: SamplingParams) -> bool:
        """Whether the parameters change logits at all."""
        return bool(
            params.repetition_penalty != 1
            or params.presence_penalty
            or params.frequency_penalty
            or params.logit_bias
            or params.allowed_token_ids is not None
            or params.min_tokens
            or params.structured_outputs
        )

    def apply(self, logits: NDArray[np.float32], output: Many[int]) -> None:
        """Change `logits` float32 [vocab] in place, for the token after `output`; -inf is a token that cannot be drawn.

        output: what was written so far, with what it was in the calls before as its beginning.
        """
        allowed = self._mask(output)
        if allowed is not None:
            logits[~allowed] = -np.inf
        if len(self._bias_ids):
            _change(logits, self._bias_ids, logits[self._bias_ids] + self._bias)
        if self._penalised:
            self._penalise(logits, output)

    def _mask(self, output: Many[int]) -> NDArray[np.bool_] | None:
        mask = self._constraint.allowed(output) if self._constraint else None
        for rule in (self._allowed, self._writing if len(output) < self._params.min_tokens else None):
            if rule is None:
                continue
            both = rule if mask is None else mask & rule
            if both.any():
                mask = both
        return mask

    def _penalise(self, logits: NDArray[np.float32], output: Many[int]) -> None:
        """Repetition as in CTRL (arXiv 1909.05858, section 4.1): a seen token's logit moves down, once for all."""
        params = self._params
        self._counts.update(output[self._counted :])
        self._counted = len(output)
        written = np.fromiter(self._counts.keys(), np.int64, len(self._counts))
        if self._prompt_ids is not None:
            ids = np.concatenate([self._prompt_ids, written])
            seen = logits[ids].astype(np.float64)
            _change(logits, ids, np.where(seen > 0, seen / params.repetition_penalty, seen * params.repetition_penalty))
        if params.frequency_penalty or params.presence_penalty:
            counts = np.fromiter(self._counts.values(), np.float64, len(self._counts))
            _change(logits, written, logits[written] - (counts * params.frequency_penalty + params.presence_penalty))


def _only(token_ids: Iterable[int], vocab_size: int) -> NDArray[np.bool_]:
    mask = np.zeros(vocab_size, np.bool_)
    mask[list(token_ids)] = True
    return mask


def _change(logits: NDArray[np.float32], ids: NDArray[np.int64], values: NDArray[np.float64]) -> None:
    """Store float64 `values` [ids], where float32 would make infinity of the greatest."""
    logits[ids] = np.where(np.isneginf(values), values, np.clip(values, -LARGEST, LARGEST))
