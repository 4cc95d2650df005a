"""Streams in the forms that servers have for them, at known times, to the figures of a reply."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilmari.bench.serve.events import EventStream
from ilmari.bench.serve.reading import ReplyReader, message_of
from ilmari.bench.serve.reply import Reply


def read(*events: tuple[float, Any], asked: float = 10.0) -> Reply:
    """A reply of events at their times; text is sent as it is."""
    reply = Reply(asked)
    reader = ReplyReader(reply)
    for now, event in events:
        text = event if isinstance(event, str) else json.dumps(event)
        reader.take(now, f"data: {text}\n\n".encode())
    reader.end()
    return reply


def delta(text: str | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **more}


def usage(completion: int, prompt: int = 5) -> dict[str, Any]:
    return {"usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


def test_an_event_that_says_something_is_a_token() -> None:
    reply = read(
        (10.1, delta("")), (10.5, delta("a")), (10.7, delta("b")), (11.0, delta("c")), (11.1, delta(None, "length")),
        (11.1, {"choices": [], **usage(3)}), (11.1, "[DONE]"),
    )  # fmt: skip
    assert reply.error is None
    assert reply.arrivals == [(10.5, 1), (10.7, 1), (11.0, 1)]
    assert (reply.ttft, reply.latency, reply.tpot) == (pytest.approx(0.5), pytest.approx(1.0), pytest.approx(0.25))
    assert [end - begin for begin, end in reply.gaps] == pytest.approx([0.2, 0.3])
    assert (reply.input_tokens, reply.output_tokens, reply.tokens) == (5, 3, 3)


def test_usage_in_every_event_counts_tokens_that_are_no_text() -> None:
    reply = read(
        (10.1, delta("", **usage(0))), (10.5, delta("", **usage(1))), (10.7, delta("ä", **usage(2))),
        (11.1, delta("bcd", **usage(5))), (11.3, delta("", "stop", **usage(6))), (11.3, {"choices": [], **usage(6)}),
    )  # fmt: skip
    assert reply.arrivals == [(10.5, 1), (10.7, 1), (11.1, 3), (11.3, 1)]
    assert reply.tpot == pytest.approx((11.3 - 10.5) / 5)


def test_several_tokens_in_an_event_are_counted_at_the_end() -> None:
    """Three events of four tokens, as the server says afterwards: no fourth event is made up."""
    for last in ((delta(None, "length"), {"choices": [], **usage(12)}), (delta(None, "length", **usage(12)),)):
        reply = read((11, delta("abcd")), (12, delta("efgh")), (13, delta("ijkl")), *((13.5, event) for event in last))
        assert len(reply.arrivals) == 3
        assert reply.tokens == 12
        assert reply.tpot == pytest.approx(2 / 11)


def test_one_token_that_is_no_text() -> None:
    reply = read((10.5, delta("", "length", **usage(1))), (10.6, {"choices": [], **usage(1)}))
    assert reply.arrivals == [(10.5, 1)]
    assert reply.tpot is None


@pytest.mark.parametrize(
    "choice",
    [
        {"text": "a"},
        {"delta": {"reasoning_content": "a"}},
        {"delta": {"reasoning": "a"}},
        {"delta": {"tool_calls": [{"index": 0}]}},
    ],
)
def test_what_counts_as_something(choice: dict[str, Any]) -> None:
    reply = read((11, {"choices": [choice]}), (12, {"choices": [choice | {"finish_reason": "stop"}], "usage": None}))
    assert reply.arrivals == [(11, 1), (12, 1)]
    assert (reply.input_tokens, reply.tokens) == (None, 2)


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ([delta("a")], "the stream ended before the reply"),
        ([], "the stream ended before the reply"),
        ([delta("", "stop")], "the reply has no token"),
        ([delta("a"), {"error": {"message": "It died."}}], "error in the stream: It died."),
        ([delta("a", "stop"), "{"], "an event is no chunk of a completion"),
        ([delta("a", "stop"), {"choices": 7}], "an event is no chunk of a completion"),
    ],
)
def test_replies_that_are_not_whole(events: list[Any], error: str) -> None:
    assert read(*((11.0, event) for event in events)).error == error


@pytest.mark.parametrize("error", [{"error": {"message": "No."}}, {"message": "No."}, {"error": "No."}, "No."])
def test_messages_of_errors(error: Any) -> None:
    assert message_of(error) == "No."


@given(cuts=st.sets(st.integers(1, 80)), newline=st.sampled_from([b"\n", b"\r\n"]))
def test_events_however_they_are_cut(cuts: set[int], newline: bytes) -> None:
    text = b": a comment\n\ndata: one\n\nevent: x\ndata:two\n\ndata: 1\ndata: 2\n\n\n\ndata: \xc3\xa4\n\ndata: rest"
    data = text.replace(b"\n", newline)
    places = [0, *sorted(cuts), len(data)]
    stream = EventStream()
    found = [event for begin, end in itertools.pairwise(places) for event in stream.feed(data[begin:end])]
    assert found == [b"one", b"two", b"1\n2", "ä".encode()]
