"""Calls of tools as a grammar, for replies that must be one and for arguments that must fit their schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ilmari.server.tool_markers import ACTION_END, ACTION_START, INTERPRETER, INTERPRETER_NAME, PLUGIN
from ilmari.server.tools import Function, Tools

_AS_TRAINED = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""White space in arguments as in the model's training data, and so no endless white space."""


def tool_grammar(tools: Tools, special_ids: Mapping[str, int]) -> str | None:
    """What a reply must be, in llguidance's Lark; None where it may be anything.

    `special_ids` is `Tokenizer.special_by_text`: markers are these tokens, or ordinary text where the tokenizer has no
    tokens for them. With `tool_choice` required or named the reply is a call from its first token on. With auto it is
    free text with calls in it, and only a function of the tools with `strict` makes it so: then every call is of a tool
    that is offered, and arguments of strict ones fit their schemas. Schemas of others are followed as far as they can
    be.
    """
    if not tools.shown or (tools.choice == "auto" and not any(function.strict for function in tools.functions)):
        return None
    functions = tools.functions
    interpreter = tools.interpreter
    if isinstance(tools.choice, Function):
        functions, interpreter = (tools.choice,), False
    elif tools.choice == INTERPRETER_NAME:
        functions = ()
    rules = [rule for index, function in enumerate(functions) for rule in _function(index, function, special_ids)]
    names = [f"call_{index}" for index in range(len(functions))]
    if interpreter:
        names.append("call_code")
        end = _marker(ACTION_END, special_ids)
        rules += [
            f'call_code: {_marker(INTERPRETER, special_ids)} "\\n```python\\n" code {end}',
            "code[lazy]: /(?s:.*)\\n```/",
        ]
    return "\n".join([*_start(tools, special_ids), f"call: {' | '.join(names)}", *rules, ""])


def single_call_stop(tools: Tools, special_ids: Mapping[str, int]) -> dict[str, list[Any]]:
    """Sampling parameters to add to a request's own, so that a reply ends with its first call where it may have one."""
    if not tools.shown or tools.parallel:
        return {}
    token_id = special_ids.get(ACTION_END)
    return {"stop": [ACTION_END]} if token_id is None else {"stop_token_ids": [token_id]}


def _start(tools: Tools, special_ids: Mapping[str, int]) -> list[str]:
    begin = _marker(ACTION_START, special_ids)
    if tools.choice != "auto":
        named = tools.choice != "required"
        return [f"start: {begin} call" if named or not tools.parallel else f"start: ({begin} call)+"]
    times = "*" if tools.parallel else "?"
    if ACTION_START in special_ids:
        return [f"start: TEXT ({begin} call TEXT){times}", "TEXT: /(?s:.*)/"]
    begun = ACTION_START.replace("|", "\\|")
    return [f"start: (begun call){times} TEXT", f"begun[lazy]: /(?s:.*){begun}/", "TEXT: /(?s:.*)/"]


def _function(index: int, function: Function, special_ids: Mapping[str, int]) -> list[str]:
    head = json.dumps(f'\n{{"name": "{function.name}", "parameters": ')
    end = _marker(ACTION_END, special_ids)
    return [
        f'call_{index}: {_marker(PLUGIN, special_ids)} {head} args_{index} "}}" {end}',
        f"args_{index}: %json {json.dumps(_schema(function))}",
    ]


def _schema(function: Function) -> dict[str, Any]:
    options = _AS_TRAINED | {"lenient": not function.strict}
    return {"type": "object", **function.parameters, "x-guidance": options}


def _marker(text: str, special_ids: Mapping[str, int]) -> str:
    token_id = special_ids.get(text)
    return json.dumps(text) if token_id is None else f"<[{token_id}]>"
