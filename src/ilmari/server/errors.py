"""Everything that goes wrong, as OpenAI's clients expect it: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from typing_extensions import TypedDict

from ilmari.engine.client import EngineDead
from ilmari.errors import IlmariError
from ilmari.server.limits import RETRY_AFTER_S

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "method_not_allowed_error",
    408: "timeout_error",
    413: "request_too_large_error",
    429: "rate_limit_error",
    431: "request_too_large_error",
    500: "server_error",
    503: "service_unavailable_error",
}
"""The type of an error by its status; others are `invalid_request_error` below 500."""

_RETRIED = (429, 503)


class ErrorBody(TypedDict):
    """What went wrong in a sentence, its kind, and the field and the reason where there is one."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(TypedDict):
    """The body of every reply that is no success."""

    error: ErrorBody


class ApiError(Exception):
    """A reply other than success; 429 and 503 tell the client to come again."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = {"retry-after": str(RETRY_AFTER_S)} if status in _RETRIED else {}
        self.headers |= headers or {}

    @property
    def reply(self) -> ErrorReply:
        """Its body."""
        kind = TYPES.get(self.status, TYPES[500] if self.status >= 500 else TYPES[400])
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    @property
    def response(self) -> Response:
        """The whole reply. ASCII only: what it quotes of a request may be no valid Unicode."""
        return Response(json.dumps(self.reply), self.status, self.headers, "application/json")


def as_api_error(error: Exception) -> ApiError:
    """What an exception is to the client; its own words only where they are meant for users."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, IlmariError):
        return ApiError(400, str(error))
    if isinstance(error, EngineDead):
        return ApiError(503, "The engine has stopped and is being started again; try again.", code="engine_dead")
    if isinstance(error, RequestValidationError):
        return _validation_error(error)
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, f"{error.detail}.", headers=error.headers)
    logging.getLogger(__name__).error("a request failed", exc_info=error)
    return ApiError(500, "The server has made a mistake; its log says which.")


def _validation_error(error: RequestValidationError) -> ApiError:
    """The first mistake, and the place in the body where it was found."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"][1:] if first["loc"][0] == "body"]
    if first["type"] == "json_invalid":
        return ApiError(400, f"The body is not JSON: {first['ctx']['error']}.")
    if not place:
        return ApiError(400, f"The body is malformed: {first['msg']}; send a JSON object as application/json.")
    field = ".".join(place)
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"{field} is unknown or not supported; leave it out.", param=field, code="unknown_field")
    return ApiError(400, f"{field}: {first['msg']}.", param=field, code=str(first["type"]))


def handle_errors(app: FastAPI) -> None:
    """Make `app` answer what it expects to go wrong in this form; `AccessLog` answers the rest."""

    async def answer(_: Request, error: Exception) -> Response:
        return as_api_error(error).response

    for kind in (ApiError, IlmariError, EngineDead, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)
