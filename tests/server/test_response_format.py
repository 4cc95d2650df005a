"""`response_format`: what is read, and a sentence for everything that is refused."""

import json
from typing import Any

import pytest

from ilmari.errors import RequestError
from ilmari.server.response_format import response_constraint

SCHEMA = {"type": "object", "properties": {"城市": {"type": "string"}}}


def of(**fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, **fields}}


def test_what_is_read() -> None:
    assert response_constraint(None) == {}
    assert response_constraint({"type": "text"}) == {}
    assert response_constraint({"type": "json_object"}) == {"json_object": True}
    for fields in ({}, {"strict": True}, {"strict": None, "description": "d"}):
        (constraint,) = response_constraint(of(**fields)).items()
        assert constraint[0] == "json"
        assert json.loads(constraint[1]) == SCHEMA


@pytest.mark.parametrize(
    ("response_format", "named"),
    [
        ("json", "response_format must be"),
        ({"type": "xml"}, "response_format must be"),
        ({"type": "json_object", "x": 1}, "response_format must be"),
        ({"type": "json_schema"}, "response_format must be"),
        ({"type": "json_schema", "json_schema": "s"}, "response_format must be"),
        (of(x=1), "unknown field 'x'"),
        (of(name=None), "name must be"),
        (of(name="a b"), "name must be"),
        (of(strict=1), "strict must be"),
        (of(description=1), "description must be"),
        (of(schema=None), "schema is of type NoneType"),
        (of(schema={"title": "x" * 70_000}), "takes 70,013 bytes"),
        (of(schema=json.loads('{"not":' * 33 + "{}" + "}" * 33)), "nested deeper than 32"),
    ],
)
def test_what_is_refused(response_format: Any, named: str) -> None:
    with pytest.raises(RequestError, match=named):
        response_constraint(response_format)
