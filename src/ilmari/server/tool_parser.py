"""A reply as it arrives, taken apart into text for the reader and calls of tools."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ilmari.server.tool_call_reader import Arguments, InterpreterCall, Name, NoCall, Piece, PluginCall
from ilmari.server.tool_markers import ACTION_START, INTERPRETER, MARKERS, PLUGIN

_MARKER = re.compile("|".join(map(re.escape, MARKERS)))
_LONGEST_MARKER = max(map(len, MARKERS))
_READERS: dict[str, type[PluginCall] | type[InterpreterCall]] = {PLUGIN: PluginCall, INTERPRETER: InterpreterCall}


@dataclass(frozen=True)
class ContentDelta:
    """More of what the reader sees; never empty."""

    text: str


@dataclass(frozen=True)
class ToolCallDelta:
    """More of call `index`, counted from 0: first its `id` and `name`, then pieces of `arguments`, a JSON text."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True)
class ToolCall:
    """A whole call; `arguments` is JSON text, unless the model erred inside it or was cut off."""

    id: str
    name: str
    arguments: str


class ToolParser:
    """Follows one reply of a model that was shown tools.

    Feed it text with special tokens spelt out, in any pieces: the deltas, put together, do not depend on them. Markers
    never come out, nor does white space right after a call; everything else the model wrote does, as content or in a
    call: what is not readable as a call, too. A call of a tool that was never offered is a call like any other, which
    its receiver may answer with an error. A reply that ends within a call ends that call.
    """

    def __init__(self) -> None:
        self._pending = ""
        self._reader: PluginCall | InterpreterCall | None = None
        self._calls = 0
        self._after_call = False

    @property
    def called(self) -> bool:
        """Whether a call has begun: a reply that the model ended itself then has the finish reason `tool_calls`."""
        return self._calls > 0

    def push(self, text: str) -> list[ReplyDelta]:
        """What became certain with more text."""
        return list(self._push(text))

    def finish(self) -> list[ReplyDelta]:
        """What was held back, once the reply has ended."""
        rest, self._pending = self._pending, ""
        return [*self._ordinary(rest), *self._close()]

    def _push(self, text: str) -> Iterator[ReplyDelta]:
        self._pending += text
        start = 0
        for marker in _MARKER.finditer(self._pending):
            yield from self._ordinary(self._pending[start : marker.start()])
            yield from self._marker(marker[0])
            start = marker.end()
        end = len(self._pending) - _held_length(self._pending[start:])
        yield from self._ordinary(self._pending[start:end])
        self._pending = self._pending[end:]

    def _marker(self, marker: str) -> Iterator[ReplyDelta]:
        if self._reader is not None and self._reader.blank and marker in _READERS:
            self._reader = _READERS[marker]()
            return
        yield from self._close()
        if marker == ACTION_START:
            self._reader = PluginCall()

    def _ordinary(self, text: str) -> Iterator[ReplyDelta]:
        if not text:
            return
        if self._reader is None:
            yield from self._content(text)
        else:
            yield from self._deltas(self._reader.push(text))

    def _close(self) -> Iterator[ReplyDelta]:
        if self._reader is not None:
            yield from self._deltas(self._reader.close())
            self._reader = None

    def _deltas(self, pieces: Iterable[Piece]) -> Iterator[ReplyDelta]:
        for piece in pieces:
            match piece:
                case Name(name):
                    yield ToolCallDelta(self._calls, f"call_{secrets.token_hex(12)}", name)
                    self._calls += 1
                    self._after_call = True
                case Arguments(text) if text:
                    yield ToolCallDelta(self._calls - 1, arguments=text)
                case NoCall(text):
                    yield from self._content(text)

    def _content(self, text: str) -> Iterator[ReplyDelta]:
        if self._after_call:
            text = text.lstrip()
        if text:
            self._after_call = False
            yield ContentDelta(text)


def parse_reply(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    """Content and calls of a whole reply."""
    parser = ToolParser()
    return gather([*parser.push(text), *parser.finish()])


def gather(deltas: Iterable[ReplyDelta]) -> tuple[str, tuple[ToolCall, ...]]:
    """Content and calls that `deltas` amount to."""
    content: list[str] = []
    calls: list[tuple[str, str, list[str]]] = []
    for delta in deltas:
        if isinstance(delta, ContentDelta):
            content.append(delta.text)
        elif delta.id is not None and delta.name is not None:
            calls.append((delta.id, delta.name, []))
        else:
            calls[delta.index][2].append(delta.arguments)
    return "".join(content), tuple(ToolCall(id_, name, "".join(arguments)) for id_, name, arguments in calls)


def _held_length(text: str) -> int:
    """How many characters at the end of `text` may be the beginning of a marker."""
    longest = min(len(text), _LONGEST_MARKER - 1)
    ends = (size for size in range(longest, 0, -1) if any(marker.startswith(text[-size:]) for marker in MARKERS))
    return next(ends, 0)


ReplyDelta = ContentDelta | ToolCallDelta
