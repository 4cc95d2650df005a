"""Log-probabilities as OpenAI's two APIs and vLLM report them."""

from __future__ import annotations

from dataclasses import dataclass, field

from typing_extensions import TypedDict

from ilmari.engine.logprobs import TokenLogprob
from ilmari.model.stream_decoder import StreamDecoder
from ilmari.model.tokenizer import Tokenizer

Position = list[TokenLogprob]


class TopLogprob(TypedDict):
    """A token that could have come; `bytes` are exact where `token` shows half a character as U+FFFD."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprobs(TopLogprob):
    """A token that came, and the most probable ones at its place."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(TypedDict):
    """Those of a chat reply's tokens; the token that ended it is none of them."""

    content: list[TokenLogprobs]


class PromptLogprob(TypedDict):
    """A token of the vocabulary at a place of the prompt; rank counts from 1."""

    logprob: float
    rank: int
    decoded_token: str


PromptLogprobs = list[dict[str, PromptLogprob] | None]
"""By token id; None for the first token, which nothing predicts."""


class CompletionLogprobs(TypedDict):
    """Those of a completion's tokens, with the token that ended it; text_offset counts characters of the text."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


def chat_logprobs(tokenizer: Tokenizer, token_ids: list[int], positions: list[Position], count: int) -> ChatLogprobs:
    """`count` of the most probable tokens beside each token."""
    return {
        "content": [
            {
                **_top(tokenizer, _of(token_id, position)),
                "top_logprobs": [_top(tokenizer, entry) for entry in position if entry.rank <= count],
            }
            for token_id, position in zip(token_ids, positions, strict=True)
        ]
    }


def prompt_logprobs(tokenizer: Tokenizer, positions: list[Position | None]) -> PromptLogprobs:
    """As vLLM reports them."""
    return [
        None
        if position is None
        else {
            str(entry.token_id): {
                "logprob": entry.logprob,
                "rank": entry.rank,
                "decoded_token": token_text(tokenizer, entry.token_id),
            }
            for entry in position
        }
        for position in positions
    ]


@dataclass
class CompletionLogprobsWriter:
    """Writes the logprobs of one completion in pieces, and counts the characters of its text."""

    tokenizer: Tokenizer
    _decoder: StreamDecoder = field(init=False)
    _offset: int = 0

    def __post_init__(self) -> None:
        self._decoder = StreamDecoder(self.tokenizer)

    def write(self, token_ids: list[int], positions: list[Position | None]) -> CompletionLogprobs:
        """Those of the next tokens; None is a place that nothing predicts."""
        logprobs: CompletionLogprobs = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for token_id, position in zip(token_ids, positions, strict=True):
            logprobs["tokens"].append(token_text(self.tokenizer, token_id))
            logprobs["text_offset"].append(self._offset)
            logprobs["token_logprobs"].append(None if position is None else _of(token_id, position).logprob)
            logprobs["top_logprobs"].append(
                None
                if position is None
                else {token_text(self.tokenizer, entry.token_id): entry.logprob for entry in position}
            )
            self._offset += len(self._decoder.push(token_id))
        return logprobs


def token_text(tokenizer: Tokenizer, token_id: int) -> str:
    """A token in a text of its own; one that is no whole character as OpenAI writes it, `bytes:\\xe4`."""
    data = tokenizer.id_to_bytes(token_id)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _of(token_id: int, position: Position) -> TokenLogprob:
    return next(entry for entry in position if entry.token_id == token_id)


def _top(tokenizer: Tokenizer, entry: TokenLogprob) -> TopLogprob:
    data = tokenizer.id_to_bytes(entry.token_id)
    return {"token": data.decode(errors="replace"), "logprob": entry.logprob, "bytes": list(data)}
