"""Replies in OpenAI's form: the same whole and in pieces, with tools and without."""

from typing import Any

import pytest

from ilmari.server.chat_reply import ChatReply

CALL = '<|action_start|><|plugin|>\n{"name": "weather", "parameters": {"city": "Oulu"}}<|action_end|>'
TEXT = "Let me look. "


def streamed(pieces: list[str], tools: bool) -> tuple[ChatReply, dict[str, Any]]:
    """What a client puts together of the deltas, calls by their index."""
    reply = ChatReply(tools)
    seen: dict[str, Any] = {"content": "", "calls": {}}
    for number, piece in enumerate(pieces):
        delta = reply.delta(piece, last=number == len(pieces) - 1)
        assert ("role" in delta) == (number == 0)
        seen["content"] += delta.get("content", "")
        for call in delta.get("tool_calls", ()):
            known = seen["calls"].setdefault(call["index"], {"id": call.get("id"), "name": "", "arguments": ""})
            assert ("id" in call) == ("type" in call) == ("name" in call["function"])
            known["name"] += call["function"].get("name", "")
            known["arguments"] += call["function"].get("arguments", "")
    return reply, seen


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("calls", [1, 2])
def test_calls(size: int, calls: int) -> None:
    text = TEXT + CALL * calls
    reply, seen = streamed([text[start : start + size] for start in range(0, len(text), size)], tools=True)
    assert seen["content"] == TEXT
    assert [(call["name"], call["arguments"]) for call in seen["calls"].values()] == [
        ("weather", '{"city": "Oulu"}')
    ] * calls
    assert len({call["id"] for call in seen["calls"].values()}) == calls
    assert (reply.reason("stop"), reply.reason("length"), reply.reason(None)) == ("tool_calls", "length", None)

    whole = ChatReply(tools=True)
    message = whole.message(text)
    assert message["content"] == TEXT
    assert [call["function"] for call in message["tool_calls"]] == [
        {"name": "weather", "arguments": '{"city": "Oulu"}'}
    ] * calls
    assert whole.reason("stop") == "tool_calls"


def test_only_a_call() -> None:
    assert ChatReply(tools=True).message(CALL)["content"] is None


@pytest.mark.parametrize("tools", [False, True])
def test_no_call(tools: bool) -> None:
    reply, seen = streamed(["Hel", "", "lo"], tools)
    assert seen == {"content": "Hello", "calls": {}}
    assert reply.reason("stop") == "stop"
    assert ChatReply(tools).message("Hello") == {"role": "assistant", "content": "Hello", "refusal": None}


def test_markers_without_tools() -> None:
    """Without tools they are text like any other."""
    assert ChatReply(tools=False).message(CALL)["content"] == CALL
