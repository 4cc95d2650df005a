"""One call as the model writes it, read while it arrives: a JSON object, or code in a fence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ilmari.server.tool_markers import INTERPRETER_NAME, TOOL_NAME

_HEAD = re.compile(rf'\s*\{{\s*"name"\s*:\s*"({TOOL_NAME})"\s*,\s*"(?:parameters|arguments)"\s*:\s*(?=\{{)')
_FENCE = re.compile(r"\s*```[a-zA-Z]*[ \t]*\n")
_FENCE_BEGUN = re.compile(r"\s*(?:`{0,2}|```[a-zA-Z]*[ \t]*)")
_FENCE_END = re.compile(r"\n?```\s*\Z")
_LONGEST_HEAD = 512


@dataclass(frozen=True)
class Name:
    """A call begins, of the function with this name."""

    text: str


@dataclass(frozen=True)
class Arguments:
    """More of the JSON text of the call's arguments."""

    text: str


@dataclass(frozen=True)
class NoCall:
    """Text that turned out to be no part of a call."""

    text: str


Piece = Name | Arguments | NoCall


class PluginCall:
    """Reads `{"name": ..., "parameters": {...}}`; models write `arguments` too.

    Arguments are passed on as they arrive, as the model writes them, once the name and their opening brace are there.
    An object in another order, or with arguments in a string, is read when it is whole. What is no such object is given
    back as text. Pieces are the same, but for where they are cut, however the text arrives.
    """

    def __init__(self) -> None:
        self._held = ""
        self._arguments: _Object | None = None
        self._rest = _Object(depth=1)
        self._ended = False

    @property
    def blank(self) -> bool:
        """Whether nothing was written yet."""
        return self._arguments is None and not self._held.strip()

    def push(self, text: str) -> Iterator[Piece]:
        """Take in more of the call."""
        if self._arguments is None:
            self._held += text
            head = _HEAD.match(self._held, 0, _LONGEST_HEAD)
            if head is None:
                return
            yield Name(head[1])
            self._arguments = _Object()
            text = self._held[head.end() :]
        if not self._arguments.ended:
            arguments, text = self._arguments.split(text)
            yield Arguments(arguments)
        if text:
            _, text = self._rest.split(text)
        if text:
            yield NoCall(text)

    def close(self) -> Iterator[Piece]:
        """The call ends here."""
        if self._arguments is not None or self.blank:
            return
        text = self._held.lstrip()
        try:
            value, end = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            value, end = None, 0
        call = _call(value)
        if call is None:
            yield NoCall(self._held)
            return
        name, arguments = call
        yield Name(name)
        yield Arguments(arguments)
        yield NoCall(text[end:])


class InterpreterCall:
    """Reads code, in a Markdown fence or bare, as a call with arguments `{"code": ...}`, passed on as it arrives."""

    def __init__(self) -> None:
        self._held = ""
        self._fenced: bool | None = None

    @property
    def blank(self) -> bool:
        """Whether nothing was written yet."""
        return self._fenced is None and not self._held.strip()

    def push(self, text: str) -> Iterator[Piece]:
        """Take in more of the call."""
        self._held += text
        if self._fenced is None:
            begun = _FENCE_BEGUN.fullmatch(self._held, 0, _LONGEST_HEAD)
            if begun and len(self._held) < _LONGEST_HEAD:
                return
            yield from self._begin()
        code = self._held.rstrip(" \t\r\n`")  # the rest may be the fence's end
        yield Arguments(_escaped(code))
        self._held = self._held[len(code) :]

    def close(self) -> Iterator[Piece]:
        """The call ends here."""
        if self.blank:
            return
        if self._fenced is None:
            yield from self._begin()
        rest = _FENCE_END.sub("", self._held) if self._fenced else self._held
        yield Arguments(_escaped(rest) + '"}')

    def _begin(self) -> Iterator[Piece]:
        fence = _FENCE.match(self._held, 0, _LONGEST_HEAD)
        self._fenced = fence is not None
        self._held = self._held[fence.end() :] if fence else self._held.lstrip("\n")
        yield Name(INTERPRETER_NAME)
        yield Arguments('{"code": "')


class _Object:
    """Finds where a JSON object ends, in text that arrives in pieces and begins `depth` braces deep in it."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._in_string = False
        self._escaped = False
        self.ended = False

    def split(self, text: str) -> tuple[str, str]:
        """What of `text` belongs to the object, and what comes after it."""
        if self.ended:
            return "", text
        for index, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = character == "\\"
                self._in_string = character != '"'
            elif character == '"':
                self._in_string = True
            elif character in "{}":
                self._depth += 1 if character == "{" else -1
                if self._depth == 0:
                    self.ended = True
                    return text[: index + 1], text[index + 1 :]
        return text, ""


def _call(value: Any) -> tuple[str, str] | None:
    """Name and arguments, as JSON text, of a whole call; None if it is none."""
    if (
        not isinstance(value, dict)
        or not isinstance(name := value.get("name"), str)
        or not re.fullmatch(TOOL_NAME, name)
    ):
        return None
    arguments = value.get("parameters", value.get("arguments", {}))
    if isinstance(arguments, str):
        try:
            return (name, arguments) if isinstance(json.loads(arguments), dict) else None
        except (ValueError, RecursionError):
            return None
    return (name, json.dumps(arguments, ensure_ascii=False)) if isinstance(arguments, dict) else None


def _escaped(code: str) -> str:
    return json.dumps(code, ensure_ascii=False)[1:-1]
