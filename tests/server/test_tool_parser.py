"""Replies taken apart into content and calls, in whatever pieces they arrive."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilmari.server.tool_markers import MARKERS
from ilmari.server.tool_parser import ReplyDelta, ToolCallDelta, ToolParser, gather, parse_reply

CALL = '<|action_start|><|plugin|>\n{"name": "get_weather", "parameters": {"city": "上海", "q": "\\"}{"}}<|action_end|>'
CODE = "<|action_start|><|interpreter|>\n```python\nprint('`a`')\n\n# ``` }\n```<|action_end|>"


def calls(text: str) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in parse_reply(text)[1]]


def in_pieces(pieces: list[str]) -> list[ReplyDelta]:
    parser = ToolParser()
    return [*(delta for piece in pieces for delta in parser.push(piece)), *parser.finish()]


def test_text_alone() -> None:
    assert parse_reply("1 < 2 <| 3 <|im_") == ("1 < 2 <| 3 <|im_", ())
    assert not in_pieces([])


def test_thought_and_call() -> None:
    content, (call,) = parse_reply("I look it up." + CALL + "<|im_end|>\n")
    assert content == "I look it up."
    assert call.name == "get_weather"
    assert json.loads(call.arguments) == {"city": "上海", "q": '"}{'}
    assert call.id.startswith("call_")


def test_interpreter() -> None:
    content, (call,) = parse_reply("Let me see.\n\n" + CODE + "\n<|im_end|>")
    assert content == "Let me see.\n\n"
    assert (call.name, json.loads(call.arguments)) == ("python_interpreter", {"code": "print('`a`')\n\n# ``` }"})


@pytest.mark.parametrize(
    ("block", "code"),
    [
        ("```\nx = 1\n```", "x = 1"),
        ("```py\nx = 1\n``` \n", "x = 1"),
        ("```python\nx = 1\n", "x = 1\n"),
        ("```python\n```", ""),
        ("\nx = `1`\n", "x = `1`\n"),
        ("print(1)", "print(1)"),
        ("```", "```"),
        ('```python\ns = "\\n\t\u2028"\n```', 's = "\\n\t\u2028"'),
    ],
)
def test_code_with_and_without_fence(block: str, code: str) -> None:
    ((name, arguments),) = calls(f"<|action_start|><|interpreter|>{block}<|action_end|>")
    assert (name, json.loads(arguments)) == ("python_interpreter", {"code": code})


@pytest.mark.parametrize(
    ("payload", "arguments"),
    [
        ('{"name": "f", "parameters": {"a": 1}}', '{"a": 1}'),
        ('{"name":"f","arguments":{"a":[{}, "}"]}}', '{"a":[{}, "}"]}'),
        (' { "name" : "f" , "arguments" : { } } ', "{ }"),
        ('{"parameters": {"a": 1}, "name": "f"}', '{"a": 1}'),
        ('{"name": "f"}', "{}"),
        ('{"name": "f", "arguments": "{\\"a\\": 1}"}', '{"a": 1}'),
        ('{"id": 7, "name": "f", "parameters": {"a": "é"}}', '{"a": "é"}'),
        ('{"name": "f", "parameters": {"a": 1}, "id": {"b": "}"}}', '{"a": 1}'),
        ('{"name": "f", ' + 600 * " " + '"parameters": {"a": 1}}', '{"a": 1}'),
    ],
)
def test_forms_of_a_call(payload: str, arguments: str) -> None:
    for marked in (f"<|plugin|>\n{payload}", f" <|plugin|>{payload}", payload):
        assert calls(f"<|action_start|>{marked}<|action_end|>") == [("f", arguments)]
        assert calls(f"<|action_start|>{marked}") == [("f", arguments)]
        assert parse_reply(f"a<|action_start|>{marked}<|action_end|>\n<|im_end|>")[0] == "a"


@pytest.mark.parametrize(
    "payload",
    [
        '{"name": "f", "parameters": [1]}',
        '{"name": "f", "parameters": "no object"}',
        '{"name": "not a name", "parameters": {}}',
        '{"name": 1, "parameters": {}}',
        "{'name': 'f', 'parameters': {}}",
        '{"name": "f", "param',
        "no JSON",
        "[" * 100_000,
        "[1]",
    ],
)
def test_what_is_no_call_is_content(payload: str) -> None:
    assert parse_reply(f"<|action_start|><|plugin|>\n{payload}<|action_end|>!") == (f"\n{payload}!", ())


def test_errors_inside_arguments_reach_the_client() -> None:
    assert calls('<|action_start|><|plugin|>{"name": "f", "parameters": {"a": Paris}}<|action_end|>') == [
        ("f", '{"a": Paris}')
    ]
    assert calls('<|action_start|><|plugin|>{"name": "f", "parameters": {"a": "Par') == [("f", '{"a": "Par')]


def test_several_calls_and_text_between() -> None:
    content, found = parse_reply(f"a {CALL}\n{CODE} b {CALL}c<|im_end|>")
    assert content == "a b c"
    assert [call.name for call in found] == ["get_weather", "python_interpreter", "get_weather"]
    assert len({call.id for call in found}) == 3


def test_text_after_a_call_without_its_end() -> None:
    assert parse_reply(CALL.removesuffix("<|action_end|>") + "\nThat is it.")[0] == "That is it."


def test_empty_calls_leave_nothing() -> None:
    assert parse_reply("a<|action_start|><|plugin|>\n<|action_end|><|action_start|><|interpreter|>\n<|im_end|>b") == (
        "ab",
        (),
    )


def test_arguments_come_as_they_are_written() -> None:
    deltas = in_pieces(list(CALL))
    assert all(isinstance(delta, ToolCallDelta) and delta.index == 0 for delta in deltas)
    first, *rest = deltas
    assert first.name == "get_weather"
    assert first.id
    assert first.arguments == ""
    assert len(rest) == len('{"city": "上海", "q": "\\"}{"}')
    assert all(delta.id is None and delta.name is None for delta in rest)


PIECES = [*MARKERS, CALL, CODE, '{"name": "f", "parameters": {', '{"name": "f"}', '"', "}", "{", "\\", "```", "\n", " "]


@given(st.data(), st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=12).map("".join))
def test_pieces_do_not_matter(data: st.DataObject, text: str) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    content, found = gather(in_pieces(pieces))
    whole_content, whole_found = parse_reply(text)
    assert content == whole_content
    assert [(call.name, call.arguments) for call in found] == [(call.name, call.arguments) for call in whole_found]
    assert gather(in_pieces(list(text)))[0] == content
    assert not any(marker in content for marker in MARKERS)
