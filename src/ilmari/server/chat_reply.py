"""A chat reply in OpenAI's form: its text as it is, or with the calls of tools taken out of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from ilmari.server.responses import CallDelta, Message, MessageDelta, Reason
from ilmari.server.tool_parser import ReplyDelta, ToolCallDelta, ToolParser, gather


class ChatReply:
    """One reply; `tools`: the model was shown some, so that what it writes can be a call."""

    def __init__(self, tools: bool) -> None:
        self._parser = ToolParser() if tools else None
        self._begun = False

    def reason(self, finish_reason: str | None) -> Reason | None:
        """Why the reply ended, if it did: a call is what it was for."""
        if finish_reason == "stop" and self._parser and self._parser.called:
            return "tool_calls"
        return cast(Reason | None, finish_reason)

    def delta(self, text: str, *, last: bool) -> MessageDelta:
        """What more text adds for a client that follows the stream."""
        delta: MessageDelta = {} if self._begun else {"role": "assistant", "content": ""}
        self._begun = True
        if self._parser is None:
            return {**delta, "content": text} if text else delta
        deltas = self._parsed(text, last)
        if content := gather(each for each in deltas if not isinstance(each, ToolCallDelta))[0]:
            delta["content"] = content
        if calls := _calls(each for each in deltas if isinstance(each, ToolCallDelta)):
            delta["tool_calls"] = calls
        return delta

    def message(self, text: str) -> Message:
        """The whole reply, which is all of its text."""
        if self._parser is None:
            return {"role": "assistant", "content": text, "refusal": None}
        content, calls = gather(self._parsed(text, last=True))
        if not calls:
            return {"role": "assistant", "content": content, "refusal": None}
        return {
            "role": "assistant",
            "content": content or None,
            "refusal": None,
            "tool_calls": [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in calls
            ],
        }

    def _parsed(self, text: str, last: bool) -> list[ReplyDelta]:
        assert self._parser is not None
        return [*self._parser.push(text), *(self._parser.finish() if last else ())]


def _calls(deltas: Iterable[ToolCallDelta]) -> list[CallDelta]:
    """One entry for each call, whatever became known of it."""
    calls: dict[int, CallDelta] = {}
    for delta in deltas:
        call = calls.setdefault(delta.index, {"index": delta.index, "function": {}})
        if delta.id is not None and delta.name is not None:
            call["id"], call["type"] = delta.id, "function"
            call["function"]["name"] = delta.name
        call["function"]["arguments"] = call["function"].get("arguments", "") + delta.arguments
    return list(calls.values())
