"""A stream of chunks, as OpenAI's API has them, read into a reply."""

from __future__ import annotations

from typing import Any

import msgspec

from ilmari.bench.serve.events import EventStream
from ilmari.bench.serve.reply import Reply

DONE = b"[DONE]"


class _Delta(msgspec.Struct):
    """What a chat chunk adds; models that think show that under one of two names."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Any] | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None

    @property
    def says_something(self) -> bool:
        delta = self.delta or _Delta()
        return bool(self.text or delta.content or delta.reasoning_content or delta.reasoning or delta.tool_calls)


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_DECODER = msgspec.json.Decoder(_Chunk)


class ReplyReader:
    """Notes in `reply` what arrives, as it does.

    How many tokens an event has is what the server says if it counts them in every event; else an event that says
    something counts as one. What the server says at the end is right in any case, and the reply has it.
    """

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._events = EventStream()
        self._known = 0
        self._counted = False
        self._finished_at: float | None = None

    def take(self, now: float, data: bytes) -> None:
        """Bytes of the stream, and when they arrived."""
        for payload in self._events.feed(data):
            if payload == DONE:
                continue
            try:
                chunk = _DECODER.decode(payload)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self._reply.error = "an event is no chunk of a completion"
                continue
            if chunk.error is not None:
                self._reply.error = f"error in the stream: {message_of(chunk.error)}"
            self._take_chunk(now, chunk)

    def end(self) -> None:
        """Nothing more comes: a reply that is not whole is an error."""
        reply = self._reply
        if not reply.arrivals and reply.output_tokens and self._finished_at is not None:
            reply.arrivals.append((self._finished_at, reply.output_tokens))  # none of it was text
        if reply.error is None and self._finished_at is None:
            reply.error = "the stream ended before the reply"
        if reply.error is None and not reply.arrivals:
            reply.error = "the reply has no token"

    def _take_chunk(self, now: float, chunk: _Chunk) -> None:
        says_something = any(choice.says_something for choice in chunk.choices)
        finished = any(choice.finish_reason for choice in chunk.choices)
        count = int(says_something)
        if chunk.usage:
            self._reply.input_tokens = chunk.usage.prompt_tokens
            self._reply.output_tokens = chunk.usage.completion_tokens
            # Usage in the last chunk alone says nothing about when the tokens came.
            self._counted |= bool(chunk.choices) and not finished
            if self._counted or says_something:
                count = chunk.usage.completion_tokens - self._known
        if count > 0:
            self._reply.arrivals.append((now, count))
            self._known += count
        if finished:
            self._finished_at = now


def message_of(error: Any) -> str:
    """The sentence of an error in one of the forms that servers have for it."""
    if isinstance(error, dict) and isinstance(error.get("error"), dict | str):
        error = error["error"]
    if isinstance(error, dict):
        error = error.get("message", error)
    return str(error)[:300]
