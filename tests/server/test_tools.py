"""`tools` and `tool_choice`: what is read, and a sentence for everything that is refused."""

from typing import Any

import pytest

from ilmari.errors import RequestError
from ilmari.server.tools import NO_PARAMETERS, Function, read_tools

F = {"type": "function", "function": {"name": "f"}}
CODE = {"type": "code_interpreter"}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels - 1):
        schema = {"items": schema}
    return schema


def of(**fields: Any) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "f", **fields}}]


def test_what_is_read() -> None:
    tools = read_tools([F, CODE])
    assert tools.functions == (Function("f", None, NO_PARAMETERS, False),)
    assert (tools.interpreter, tools.choice, tools.parallel, tools.shown) == (True, "auto", True, True)
    assert read_tools([F], F).choice == Function("f", None, NO_PARAMETERS, False)
    assert read_tools([CODE], CODE).choice == "python_interpreter"
    assert not read_tools([F], "none").shown
    assert not read_tools([]).shown
    assert not read_tools(None, parallel=False).parallel
    (function,) = read_tools(of(description="d", parameters=nested(32), strict=True)).functions
    assert (function.description, function.parameters, function.strict) == ("d", nested(32), True)
    assert len(read_tools([{"type": "function", "function": {"name": f"f{i}"}} for i in range(128)]).functions) == 128


@pytest.mark.parametrize(
    ("tools", "choice", "named"),
    [
        ("f", None, "tools is of type str"),
        ([F] * 129, None, "tools has 129 entries"),
        ([F, F], None, "two of the name 'f'"),
        ([CODE, CODE], None, r"tools\[1\]"),
        ([CODE, {"type": "function", "function": {"name": "python_interpreter"}}], None, "two of the name"),
        (["f"], None, r"tools\[0\] is of type str"),
        ([{"type": "web_search"}], None, r"tools\[0\] must be of type"),
        ([F | {"x": 1}], None, r"tools\[0\] has the unknown field 'x'"),
        ([{"type": "function"}], None, r"tools\[0\].function is of type NoneType"),
        (of(x=1), None, "unknown field 'x'"),
        (of(name=""), None, "function.name must be"),
        (of(name="f\n"), None, "function.name must be"),
        (of(name="<|im_end|>"), None, "function.name must be"),
        (of(name="f" * 65), None, "function.name must be"),
        (of(description=1), None, "description must be"),
        (of(description="d" * 8193), None, "description must be"),
        (of(strict="yes"), None, "strict must be"),
        (of(parameters=[]), None, "parameters is of type list"),
        (of(parameters={"type": "array"}), None, 'of type "object"'),
        (of(parameters=nested(33)), None, "nested deeper than 32"),
        (of(parameters=nested(100_000)), None, "nested deeper than 32"),
        (of(parameters={"title": "书" * 22_000}), None, "takes 66,013 bytes"),
        ([F], "always", "tool_choice must be"),
        ([F], {}, "tool_choice must be"),
        ([F], {"type": "function", "function": {"name": "g"}}, "name of one of the tools"),
        ([F], {"type": "function", "function": {"name": ["f"]}}, "name of one of the tools"),
        ([F], {"type": "function", "function": "f"}, "tool_choice.function is of type str"),
        ([F], CODE, "tool_choice must be"),
        ([], "required", "tool_choice must be"),
    ],
)
def test_what_is_refused(tools: Any, choice: Any, named: str) -> None:
    with pytest.raises(RequestError, match=named) as error:
        read_tools(tools, choice)
    assert len(str(error.value)) < 400
