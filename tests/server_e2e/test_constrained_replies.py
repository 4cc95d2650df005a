"""Replies that must have a form: JSON of a schema, regex, grammar, call of a tool, from a model that writes noise."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema_rs
import openai
import pytest
from four_ways import said_in_every_way
from live_server import LiveServer
from openai import OpenAI
from requests_to_tiny import HELLO, body, chat, chat_stream, text_of

FREE: dict[str, Any] = {"allowed_token_ids": None, "ignore_eos": False, "max_tokens": 400, "temperature": 1}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"enum": ["Ada", "Bjørn"]},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Oslo", "Bergen"]}, "days": {"type": "integer", "maximum": 9}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {
    "type": "function",
    "function": {
        "name": "clock",
        "parameters": {
            "type": "object",
            "properties": {"utc": {"type": "boolean"}},
            "required": ["utc"],
            "additionalProperties": False,
        },
    },
}
NAMED = {"type": "function", "function": {"name": "clock"}}


def schema_format(schema: object, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **more}}


@pytest.mark.parametrize("seed", range(4))
def test_json_schema(client: OpenAI, seed: int) -> None:
    fields = {**FREE, "seed": seed, "response_format": schema_format(SCHEMA, strict=True)}
    choice = chat(client, **fields).choices[0]
    assert choice.finish_reason == "stop"
    jsonschema_rs.validate(SCHEMA, json.loads(choice.message.content or ""))
    assert text_of(chat_stream(client, **fields)) == choice.message.content


def test_json_object(client: OpenAI) -> None:
    """A reply may be cut; what there is begins an object."""
    choice = chat(client, **FREE, seed=2, response_format={"type": "json_object"}).choices[0]
    text = choice.message.content or ""
    assert text.lstrip().startswith("{")
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(text), dict)


def test_text_format_changes_nothing(client: OpenAI) -> None:
    assert chat(client, response_format={"type": "text"}).choices == chat(client).choices


@pytest.mark.parametrize("pattern", ["[a-c]{5}-[0-9]{3}", "(ja|nei), takk!", "ÆØÅ+[.]"])
def test_regex(client: OpenAI, pattern: str) -> None:
    choice = chat(client, **FREE, seed=1, structured_outputs={"regex": pattern}).choices[0]
    assert choice.finish_reason == "stop"
    assert re.fullmatch(pattern, choice.message.content or "")


def test_grammar(client: OpenAI) -> None:
    grammar = 'start: sum\nsum: NUMBER ("+" NUMBER)~2..4\nNUMBER: /[1-9][0-9]?/\n'
    choice = chat(client, **FREE, seed=1, structured_outputs={"grammar": grammar}).choices[0]
    assert re.fullmatch(r"[1-9]\d?(\+[1-9]\d?){2,4}", choice.message.content or "")


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
@pytest.mark.parametrize("seed", range(2))
def test_forced_call(client: OpenAI, choice: Any, seed: int) -> None:
    fields = {**FREE, "seed": seed, "tools": [WEATHER, CLOCK], "tool_choice": choice, "parallel_tool_calls": False}
    (reply,) = chat(client, **fields).choices
    assert reply.finish_reason == "tool_calls"
    assert not reply.message.content
    assert reply.message.tool_calls is not None
    (call,) = reply.message.tool_calls
    assert call.type == "function"
    parameters = {tool["function"]["name"]: tool["function"]["parameters"] for tool in (WEATHER, CLOCK)}
    if choice == NAMED:
        assert call.function.name == "clock"
    jsonschema_rs.validate(parameters[call.function.name], json.loads(call.function.arguments))

    chunks = chat_stream(client, **fields)
    assert text_of(chunks) == ""
    pieces = [piece for chunk in chunks for c in chunk.choices for piece in c.delta.tool_calls or ()]
    assert {piece.index for piece in pieces} == {0}
    assert [piece.id for piece in pieces if piece.id] == [pieces[0].id]
    names = [piece.function.name for piece in pieces if piece.function and piece.function.name]
    assert names == [call.function.name]
    arguments = "".join(piece.function.arguments or "" for piece in pieces if piece.function)
    assert arguments == call.function.arguments
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["tool_calls"]


SCRIPT = r"""
start: "Ja. " clock clock code " Det var alt."
clock: <[261]> <[264]> "\n{\"name\": \"clock\", \"parameters\": " /\{"utc": (true|false)\}/ "}" <[262]>
code: <[261]> <[263]> "\n```python\n" /[a-z]{300}/ "\n```" <[262]>
"""
"""Text and calls between the tokens of markers: what a model that chooses to call writes."""


@pytest.mark.parametrize("parallel", [True, False])
def test_calls_of_its_own_accord(server: LiveServer, parallel: bool) -> None:
    offer = {"tools": [CLOCK, {"type": "code_interpreter"}], "parallel_tool_calls": parallel}
    free = FREE | {"max_tokens": 800}
    fields = body(messages=HELLO, **free, seed=3, structured_outputs={"grammar": SCRIPT}, **offer)
    said = said_in_every_way(server, **fields)
    assert said.reason == "tool_calls"
    clocks = [(name, set(json.loads(arguments))) for name, arguments in said.calls[:2]]
    if not parallel:
        assert (said.text, clocks) == ("Ja. ", [("clock", {"utc"})])
        return
    assert (said.text, clocks) == ("Ja. Det var alt.", [("clock", {"utc"})] * 2)
    ((name, arguments),) = said.calls[2:]
    assert name == "python_interpreter"
    assert re.fullmatch("[a-z]{300}", json.loads(arguments)["code"])
    assert said.pieces[2] > 1


def test_no_call_without_leave(client: OpenAI) -> None:
    (reply,) = chat(client, tools=[CLOCK], tool_choice="none").choices
    assert reply.message.tool_calls is None
    assert (reply.message.content, reply.finish_reason) == (chat(client).choices[0].message.content, "length")


def test_tools_are_in_the_prompt(client: OpenAI) -> None:
    plain, offered = (chat(client, **fields).usage for fields in ({}, {"tools": [CLOCK]}))
    assert plain is not None
    assert offered is not None
    assert offered.prompt_tokens > plain.prompt_tokens


def test_a_conversation_with_a_call_and_its_result(client: OpenAI) -> None:
    first = chat(client, **FREE, seed=1, tools=[CLOCK], tool_choice=NAMED).choices[0].message
    assert first.tool_calls is not None
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": '{"time": "12:00"}'}
    messages = [*HELLO, first.to_dict(), result]
    second = chat(client, messages=messages, tools=[CLOCK], tool_choice="none")
    assert len(second.choices[0].message.content or "") == 24
    with pytest.raises(openai.BadRequestError):
        chat(client, messages=[*HELLO, result], tools=[CLOCK])


def test_both_clients_of_a_constraint_at_once_are_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        chat(client, response_format={"type": "json_object"}, structured_outputs={"regex": "a"})
