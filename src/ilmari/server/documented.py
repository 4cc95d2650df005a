"""What /openapi.json says of answers."""

from __future__ import annotations

from typing import Any

from ilmari.server.errors import ErrorReply

_ERRORS = {
    400: "The request cannot be served; the sentence says why.",
    401: "The API key is missing or wrong.",
    404: "There is no such model.",
    408: "Body or reply took too long.",
    413: "The body is too long.",
    429: "The queue is full; try again after `Retry-After` seconds.",
    500: "The server has made a mistake.",
    503: "The engine is being started, or the server is shutting down; try again after `Retry-After` seconds.",
}

Responses = dict[int | str, dict[str, Any]]


def errors(*statuses: int) -> Responses:
    """Errors that an endpoint answers with."""
    return {status: {"model": ErrorReply, "description": _ERRORS[status]} for status in statuses}


EVERYWHERE = errors(401, 408, 413)
GENERATION_ERRORS = errors(400, 401, 404, 408, 413, 429, 500, 503)


def json_or_stream(whole: type, chunk: type) -> Responses:
    """Success, as JSON or as a stream of events with JSON in them."""
    data = {"type": "string", "description": f"A {chunk.__name__} as JSON; [DONE] in the last event."}
    event = {"type": "object", "properties": {"data": data}, "required": ["data"]}
    stream = {"itemSchema": event}
    return {200: {"model": whole, "description": "The reply.", "content": {"text/event-stream": stream}}}
