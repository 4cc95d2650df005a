"""`response_format`, as what the text of a reply must be."""

from __future__ import annotations

import re
from typing import Any

from ilmari.errors import RequestError
from ilmari.server.json_limits import schema_text

_SCHEMA_FIELDS = ("name", "description", "schema", "strict")


def response_constraint(response_format: Any) -> dict[str, Any]:
    """Keywords for `StructuredOutputs`, of which there is one at most; none for text.

    `response_format` is as parsed from JSON: None, `{"type": "text"}`, `{"type": "json_object"}` or `{"type":
    "json_schema", "json_schema": {"name", "description", "schema", "strict"}}`. The schema is followed with `strict` or
    without; what it may contain is checked where it is compiled.

    Raises:
        RequestError: it is something else, or the schema is beyond its limits.
    """
    if response_format in (None, {"type": "text"}):
        return {}
    if response_format == {"type": "json_object"}:
        return {"json_object": True}
    given = isinstance(response_format, dict) and response_format.keys() == {"type", "json_schema"}
    if not given or response_format["type"] != "json_schema" or not isinstance(response_format["json_schema"], dict):
        raise RequestError(
            'response_format must be {"type": "text"}, {"type": "json_object"} or {"type": "json_schema", '
            '"json_schema": {"name": ..., "schema": ...}}.'
        )
    entry = response_format["json_schema"]
    if unknown := next((key for key in entry if key not in _SCHEMA_FIELDS), None):
        known = ", ".join(_SCHEMA_FIELDS)
        raise RequestError(
            f"response_format.json_schema has the unknown field {str(unknown)[:64]!r}; known are {known}."
        )
    if not isinstance(name := entry.get("name"), str) or not re.fullmatch("[a-zA-Z0-9_-]{1,64}", name):
        raise RequestError("response_format.json_schema.name must be 1 to 64 letters, digits, '_' or '-'.")
    for field, kind, expected in (("description", str, "a string"), ("strict", bool, "true or false")):
        if entry.get(field) is not None and not isinstance(entry[field], kind):
            raise RequestError(f"response_format.json_schema.{field} must be {expected}.")
    return {"json": schema_text(entry.get("schema"), "response_format.json_schema.schema")}
