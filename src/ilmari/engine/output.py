"""What a request gives back, named as vLLM's users know it."""

from __future__ import annotations

from dataclasses import dataclass

from ilmari.engine.logprobs import TokenLogprob
from ilmari.engine.sequence import FinishReason


@dataclass(frozen=True)
class CompletionOutput:
    """One generated text; `token_ids` include a stop token, `text` does not. finish_reason None: not finished yet.

    logprobs: for each token the most likely ones, if asked for.
    """

    index: int
    text: str
    token_ids: list[int]
    logprobs: list[list[TokenLogprob]] | None
    finish_reason: FinishReason | None


@dataclass(frozen=True)
class RequestOutput:
    """One request: its prompt (None if it came as token ids) and its one output so far."""

    request_id: int
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self.outputs[0].finish_reason is not None
