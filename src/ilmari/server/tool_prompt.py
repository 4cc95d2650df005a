"""Conversations with tools, as turns that a chat template takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ilmari.errors import RequestError
from ilmari.server.tool_markers import ACTION_END, ACTION_START, INTERPRETER, INTERPRETER_NAME, PLUGIN
from ilmari.server.tools import Function, Tools

INTERPRETER_PROMPT = (
    "You can run Python in a Jupyter notebook that keeps its state between calls. Send it code where that helps: to "
    "calculate, to read, analyse or plot data, to work on files and text, or to try a program."
)

Escape = Callable[[str], str]
"""`Tokenizer.escape_special`: what a stranger wrote must not become a special token."""


@dataclass(frozen=True)
class PromptTurns:
    """What `ChatTemplate.render` takes; encode what it gives with `parse_special=True`."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]


def prompt_turns(messages: Sequence[Mapping[str, Any]], tools: Tools, escape: Escape, *, native: bool) -> PromptTurns:
    """Turns of `messages`: OpenAI's, with roles system, user, assistant and tool and content of text or None.

    `native` is `ChatTemplate.takes_tools`: such a template is given tools, calls and results as they are. For any other
    they are written in InternLM2's format, a system turn with the tools after the first system message, or first.

    Raises:
        RequestError: a result without its call, a call that is malformed, or text that is no valid Unicode.
    """
    kinds = _call_kinds(messages)
    if native:
        if tools.interpreter and tools.shown:
            raise RequestError("the model's chat template writes tools itself and knows no code interpreter.")
        offered = [_openai(function) for function in tools.functions] if tools.shown else []
        return PromptTurns([_native_turn(message, escape) for message in messages], _escaped(offered, escape))
    turns = [_turn(message, kinds, escape) for message in messages]
    first = 1 if turns and turns[0]["role"] == "system" else 0
    turns[first:first] = _offers(tools, escape)
    return PromptTurns(turns, [])


def _offers(tools: Tools, escape: Escape) -> Iterable[dict[str, str]]:
    if tools.shown and tools.interpreter:
        yield {"role": f"system name={INTERPRETER}", "content": INTERPRETER_PROMPT}
    if tools.shown and tools.functions:
        text = json.dumps([_described(function) for function in tools.functions], ensure_ascii=False)
        yield {"role": f"system name={PLUGIN}", "content": escape(text)}


def _turn(message: Mapping[str, Any], kinds: Mapping[str, str], escape: Escape) -> dict[str, str]:
    role, content = message["role"], escape(message.get("content") or "")
    if role == "tool":
        return {"role": f"environment name={kinds[message['tool_call_id']]}", "content": content}
    calls = "".join(_written(call["function"], escape) for call in message.get("tool_calls") or ())
    return {"role": role, "content": content + calls}


def _written(function: Mapping[str, Any], escape: Escape) -> str:
    """A call as the model wrote it; arguments are kept to the letter, so that a cached prefix is found again."""
    name, arguments = function["name"], function["arguments"]
    if name == INTERPRETER_NAME:
        return f"{ACTION_START}{INTERPRETER}\n```python\n{escape(_code(arguments))}\n```{ACTION_END}"
    call = escape(f'{{"name": {json.dumps(name, ensure_ascii=False)}, "parameters": {arguments or "{}"}}}')
    return f"{ACTION_START}{PLUGIN}\n{call}{ACTION_END}"


def _code(arguments: str) -> str:
    try:
        code = json.loads(arguments)["code"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return arguments
    return code if isinstance(code, str) else arguments


def _call_kinds(messages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The marker of each call, by its id.

    Raises:
        RequestError: as `prompt_turns`.
    """
    kinds: dict[str, str] = {}
    for index, message in enumerate(messages):
        for number, call in enumerate(message.get("tool_calls") or ()):
            function = call.get("function") if isinstance(call, Mapping) else None
            if (
                not isinstance(function, Mapping)
                or call.get("type", "function") != "function"
                or not all(isinstance(text, str) for text in (call.get("id"), function.get("name")))
                or not isinstance(function.get("arguments"), str)
            ):
                raise RequestError(
                    f'messages[{index}].tool_calls[{number}] must be {{"id": ..., "type": "function", "function": '
                    '{"name": ..., "arguments": ...}}, all strings.'
                )
            kinds[call["id"]] = INTERPRETER if function["name"] == INTERPRETER_NAME else PLUGIN
        if message["role"] == "tool" and message.get("tool_call_id") not in kinds:
            raise RequestError(f"messages[{index}].tool_call_id must be the id of a call in an earlier message.")
    return kinds


def _described(function: Function) -> dict[str, Any]:
    description = {} if function.description is None else {"description": function.description}
    return {"name": function.name, **description, "parameters": function.parameters}


def _openai(function: Function) -> dict[str, Any]:
    return {"type": "function", "function": _described(function)}


def _native_turn(message: Mapping[str, Any], escape: Escape) -> dict[str, Any]:
    """The message for a template that knows calls: their arguments as an object, which is what templates expect."""
    turn = {key: value if key == "role" else _escaped(value, escape) for key, value in message.items()}
    turn["content"] = turn.get("content") or ""
    for call in turn.get("tool_calls") or ():
        try:
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        except (ValueError, RecursionError):
            continue
    return turn


def _escaped(value: Any, escape: Escape) -> Any:
    """Plain data with every text in it escaped."""
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, Mapping):
        return {_escaped(key, escape): _escaped(item, escape) for key, item in value.items()}
    return [_escaped(item, escape) for item in value] if isinstance(value, list | tuple) else value
