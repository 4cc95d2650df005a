"""The tools of a request, and whether the model may, must or must not call them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ilmari.errors import RequestError
from ilmari.server.json_limits import schema_text
from ilmari.server.tool_markers import INTERPRETER_NAME, TOOL_NAME

MAX_TOOLS = 128
MAX_DESCRIPTION_CHARS = 8192

NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


@dataclass(frozen=True)
class Function:
    """A function that the model may call. `strict`: its arguments must fit the schema whenever it is called."""

    name: str
    description: str | None
    parameters: Mapping[str, Any]
    strict: bool


@dataclass(frozen=True)
class Tools:
    """What a request offers, and how it may be used.

    choice: "auto" leaves it to the model; "none" shows it nothing, and a reply is not searched for calls; "required"
    and the name of a function make the reply a call. parallel: a reply may hold several calls.
    """

    functions: tuple[Function, ...]
    interpreter: bool
    choice: Literal["auto", "none", "required"] | Function | Literal["python_interpreter"]
    parallel: bool = True

    @property
    def shown(self) -> bool:
        """Whether the model sees the tools, and replies are read with `ToolParser`."""
        return self.choice != "none" and bool(self.functions or self.interpreter)


def read_tools(tools: Sequence[Any] | None, choice: Any = None, *, parallel: bool | None = None) -> Tools:
    """A request's `tools`, `tool_choice` and `parallel_tool_calls`, as parsed from JSON.

    A tool is `{"type": "function", "function": {"name", "description", "parameters", "strict"}}` or
    `{"type": "code_interpreter"}`; `choice` is "auto" (also None), "none", "required", or `{"type": "function",
    "function": {"name"}}` or `{"type": "code_interpreter"}`.

    Raises:
        RequestError: something else, two tools of one name, or a size beyond the limits.
    """
    found = tools or ()
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise RequestError(f"tools is of type {type(tools).__name__}; it must be a list.")
    if len(found) > MAX_TOOLS:
        raise RequestError(f"tools has {len(found)} entries; it may have {MAX_TOOLS}.")
    functions: list[Function] = []
    interpreter = False
    for index, tool in enumerate(found):
        field = f"tools[{index}]"
        if tool == {"type": "code_interpreter"} and not interpreter:
            interpreter = True
            continue
        entry = _object(tool, field, ("type", "function"))
        if entry.get("type") != "function":
            raise RequestError(f'{field} must be of type "function", or once {{"type": "code_interpreter"}}.')
        functions.append(_function(entry.get("function"), f"{field}.function"))
    names = [function.name for function in functions] + [INTERPRETER_NAME] * interpreter
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise RequestError(f"tools has two of the name {twice!r}; give each a name of its own.")
    chosen = _choice(choice, {function.name: function for function in functions}, interpreter)
    return Tools(tuple(functions), interpreter, chosen, parallel is not False)


def _function(value: Any, field: str) -> Function:
    entry = _object(value, field, ("name", "description", "parameters", "strict"))
    name, description, strict = entry.get("name"), entry.get("description"), entry.get("strict")
    if not isinstance(name, str) or not re.fullmatch(TOOL_NAME, name):
        raise RequestError(f"{field}.name must be 1 to 64 letters, digits, '_', '-' or '.'.")
    if description is not None and (not isinstance(description, str) or len(description) > MAX_DESCRIPTION_CHARS):
        raise RequestError(f"{field}.description must be a string of at most {MAX_DESCRIPTION_CHARS} characters.")
    if strict is not None and not isinstance(strict, bool):
        raise RequestError(f"{field}.strict must be true or false.")
    parameters = NO_PARAMETERS if entry.get("parameters") is None else entry["parameters"]
    schema_text(parameters, f"{field}.parameters")
    if parameters.get("type", "object") != "object":
        raise RequestError(f'{field}.parameters must be a JSON schema of type "object".')
    return Function(name, description, parameters, bool(strict))


def _choice(value: Any, functions: Mapping[str, Function], interpreter: bool) -> Any:
    offered = bool(functions or interpreter)
    if value in (None, "auto", "none"):
        return value or "auto"
    if value == "required" and offered:
        return value
    if value == {"type": "code_interpreter"} and interpreter:
        return INTERPRETER_NAME
    if isinstance(value, dict) and value.keys() == {"type", "function"} and value["type"] == "function":
        name = _object(value["function"], "tool_choice.function", ("name",)).get("name")
        if isinstance(name, str) and name in functions:
            return functions[name]
        raise RequestError("tool_choice.function.name must be the name of one of the tools.")
    raise RequestError(
        'tool_choice must be "auto", "none", "required" (with tools), {"type": "function", "function": {"name": ...}} '
        'or {"type": "code_interpreter"}, of a tool that is offered.'
    )


def _object(value: Any, field: str, known: Sequence[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(f"{field} is of type {type(value).__name__}; it must be an object.")
    if unknown := next((key for key in value if key not in known), None):
        raise RequestError(f"{field} has the unknown field {str(unknown)[:64]!r}; known are {', '.join(known)}.")
    return value
