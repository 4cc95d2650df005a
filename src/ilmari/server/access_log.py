"""The outermost layer: gives each request an id, and writes one line of JSON about it when it has ended."""

from __future__ import annotations

import json
import re
import sys
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ilmari.server.errors import as_api_error
from ilmari.server.exchange import Exchange
from ilmari.server.limits import MAX_NAME_CHARS
from ilmari.server.metrics import Metrics

HEADER = "x-request-id"
GONE = 499
"""The status of a request whose client left before the reply began."""

_CLIENTS_ID = re.compile(rf"[\w.:/+=-]{{1,{MAX_NAME_CHARS}}}", re.ASCII)


class AccessLog:
    """Writes to stderr who asked for what and how it went, without a word of prompt, reply or key."""

    def __init__(self, app: ASGIApp, id_headers: bool, metrics: Metrics) -> None:
        """id_headers: tell the client the request's id; metrics: where responses are counted."""
        self._app = app
        self._id_headers = id_headers
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        clients_id = Headers(scope=scope).get(HEADER, "")
        exchange = Exchange(clients_id if _CLIENTS_ID.fullmatch(clients_id) else uuid.uuid4().hex)
        scope.setdefault("state", {})["exchange"] = exchange
        status = GONE

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._id_headers:
                    MutableHeaders(scope=message)[HEADER] = exchange.id
            await send(message)

        try:
            with self._metrics.in_flight.track_inprogress():
                await self._app(scope, receive, noting)
        except Exception as error:
            if status != GONE:
                raise
            await as_api_error(error).response(scope, receive, noting)
        finally:
            self._metrics.responses.labels(str(status)).inc()
            print(_line(scope, exchange, status), file=sys.stderr, flush=True)


def _line(scope: Scope, exchange: Exchange, status: int) -> str:
    client = scope.get("client")
    return json.dumps(
        {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "request_id": exchange.id,
            "client": f"{client[0]}:{client[1]}" if client else None,
            "api_key": exchange.key,
            "user": exchange.user,
            "method": scope["method"],
            "path": scope["path"][:MAX_NAME_CHARS],
            "status": status,
            "seconds": round(time.monotonic() - exchange.began, 4),
            "model": exchange.model,
            "prompt_tokens": exchange.prompt_tokens,
            "completion_tokens": exchange.completion_tokens,
        }
    )
