"""Bounds on JSON that a client sends to be compiled or shown to the model."""

from __future__ import annotations

import json
from typing import Any

from ilmari.errors import RequestError
from ilmari.server.limits import MAX_SCHEMA_BYTES, MAX_SCHEMA_NESTING


def schema_text(schema: Any, field: str) -> str:
    """A JSON schema as text; `field` names it in messages.

    Raises:
        RequestError: it is no JSON object, or too large or too deep.
    """
    if not isinstance(schema, dict):
        raise RequestError(f"{field} is of type {type(schema).__name__}; it must be a JSON schema, which is an object.")
    if _deeper_than(schema, MAX_SCHEMA_NESTING):
        raise RequestError(f"{field} is nested deeper than {MAX_SCHEMA_NESTING} levels; give a flatter schema.")
    text = json.dumps(schema, ensure_ascii=False)
    if (size := len(text.encode(errors="surrogatepass"))) > MAX_SCHEMA_BYTES:
        raise RequestError(f"{field} takes {size:,} bytes; a schema may take {MAX_SCHEMA_BYTES:,}.")
    return text


def _deeper_than(value: Any, levels: int) -> bool:
    """Whether objects and lists of `value` hold one another in more than `levels` levels."""
    layer = [value]
    for _ in range(levels + 1):
        containers = [item for item in layer if isinstance(item, dict | list)]
        layer = [item for found in containers for item in (found.values() if isinstance(found, dict) else found)]
        if not containers:
            return False
    return True
