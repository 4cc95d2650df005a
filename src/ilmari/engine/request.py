"""A request in text: the engine's sequence, and its text so far."""

from __future__ import annotations

from dataclasses import dataclass

from ilmari.engine.output import CompletionOutput, RequestOutput
from ilmari.engine.sequence import Sequence
from ilmari.engine.text_stream import TextStream
from ilmari.model.tokenizer import Tokenizer


@dataclass
class Request:
    """Follows a sequence and keeps the text that is final; a stop token or string is not part of it unless wanted."""

    prompt: str | None
    sequence: Sequence
    stream: TextStream
    text: str = ""
    seen: int = 0

    @classmethod
    def start(cls, prompt: str | None, sequence: Sequence, tokenizer: Tokenizer) -> Request:
        """Follow a sequence from its beginning."""
        return cls(prompt, sequence, TextStream(tokenizer, sequence.params, sequence.stop_ids))

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self.sequence.finish_reason is not None

    def advance(self) -> bool:
        """Take in the sequence's new tokens; True if a stop string ended the text."""
        self.text += self.stream.push(self.sequence.output[self.seen :], self.finished)
        self.seen = len(self.stream.pieces)
        return self.stream.stopped

    def output(self) -> RequestOutput:
        """The request as it stands: no token that a step brought after the stop string is part of it."""
        sequence = self.sequence
        completion = CompletionOutput(
            index=0,
            text=self.text,
            token_ids=sequence.output[: self.seen],
            logprobs=sequence.logprobs[: self.seen] if sequence.params.logprobs is not None else None,
            # A stop string may be settled only when the text ends, after the engine found another reason.
            finish_reason="stop" if self.stream.stopped else sequence.finish_reason,
        )
        return RequestOutput(sequence.id, self.prompt, sequence.tokens[: sequence.prompt_len], [completion])
