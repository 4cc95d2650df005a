"""New tokens to new text: decoded, without stop tokens, up to the first stop string."""

from __future__ import annotations

from collections.abc import Iterable

from ilmari.engine.sampling_params import SamplingParams
from ilmari.engine.stop_strings import StopStrings
from ilmari.model.stream_decoder import StreamDecoder
from ilmari.model.tokenizer import Tokenizer


class TextStream:
    """The text of one answer as it is written.

    pieces: for each token so far, the text that became final with it, "" for a stop token; joined, they are the text
    before a stop string cuts it. There are as many as there are tokens up to the one that completed a stop string.
    """

    def __init__(self, tokenizer: Tokenizer, params: SamplingParams, stop_ids: frozenset[int]) -> None:
        """`stop_ids`: the model's own, which the parameters may ignore or add to."""
        self._hidden = frozenset(params.stop_token_ids or ()) | (frozenset() if params.ignore_eos else stop_ids)
        self._decoder = StreamDecoder(tokenizer, skip_special_tokens=params.skip_special_tokens)
        self._stops = StopStrings(params.stops, params.include_stop_str_in_output)
        self.pieces: list[str] = []

    @property
    def stopped(self) -> bool:
        """Whether a stop string ended the text; it may be settled only by the push that is said to be the last."""
        return self._stops.stopped

    def push(self, token_ids: Iterable[int], finished: bool) -> str:
        """The text that is final with these tokens; `finished`: no more will come. After a stop string, ""."""
        text = ""
        for token_id in token_ids:
            if self.stopped:
                return text
            self.pieces.append("" if token_id in self._hidden else self._decoder.push(token_id))
            shown, _ = self._stops.push(self.pieces[-1])
            text += shown
        if finished and not self.stopped:
            rest = self._decoder.flush()
            if self.pieces:
                self.pieces[-1] += rest
            shown, _ = self._stops.push(rest)
            text += shown + self._stops.flush()
        return text
