"""A request in text: the engine's sequence, its decoder and its stop strings."""

from __future__ import annotations

from dataclasses import dataclass

from ilmari.engine.output import CompletionOutput, RequestOutput
from ilmari.engine.sequence import Sequence
from ilmari.engine.stop_strings import StopStrings
from ilmari.model.stream_decoder import StreamDecoder
from ilmari.model.tokenizer import Tokenizer


@dataclass
class Request:
    """Follows a sequence and keeps the text that is final; a stop token or string is not part of it unless wanted."""

    prompt: str | None
    sequence: Sequence
    decoder: StreamDecoder
    stops: StopStrings
    text: str = ""
    seen: int = 0

    @classmethod
    def start(cls, prompt: str | None, sequence: Sequence, tokenizer: Tokenizer) -> Request:
        """Follow a sequence from its beginning."""
        params = sequence.params
        return cls(
            prompt,
            sequence,
            StreamDecoder(tokenizer, skip_special_tokens=params.skip_special_tokens),
            StopStrings(params.stops, params.include_stop_str_in_output),
        )

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self.sequence.finish_reason is not None

    def advance(self) -> bool:
        """Take in the sequence's new tokens; True if a stop string ended the text."""
        for token in self.sequence.tokens[self.sequence.prompt_len + self.seen :]:
            self.seen += 1
            if token in self.sequence.stop_ids:
                continue
            shown, stopped = self.stops.push(self.decoder.push(token))
            self.text += shown
            if stopped:
                return True
        if self.finished:
            shown, _ = self.stops.push(self.decoder.flush())
            self.text += shown + self.stops.flush()
        return False

    def output(self) -> RequestOutput:
        """The request as it stands."""
        sequence = self.sequence
        completion = CompletionOutput(
            index=0,
            text=self.text,
            token_ids=sequence.output,
            logprobs=list(sequence.logprobs) if sequence.params.logprobs is not None else None,
            # A stop string may be settled only when the text ends, after the engine found another reason.
            finish_reason="stop" if self.stops.stopped else sequence.finish_reason,
        )
        return RequestOutput(sequence.id, self.prompt, sequence.tokens[: sequence.prompt_len], [completion])
