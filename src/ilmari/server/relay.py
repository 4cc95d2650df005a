"""The page in front of another server: its files, and the two endpoints that it asks, passed on to that server alone.

A browser lets a page ask only the server that it came from, unless the other one allows it (CORS). Passed on by this
one, any server will do.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ilmari.server.connection import Connection
from ilmari.server.errors import ApiError, handle_errors
from ilmari.server.upstream import Upstream
from ilmari.webui.page import page_routes

PASSED_ON = (("GET", "/models"), ("POST", "/chat/completions"))
"""All that the page asks; nothing else gets through."""

_TO_SERVER = ("accept", "authorization", "content-type")
_TO_PAGE = ("content-type", "retry-after")


def create_relay(upstream: Upstream, timeout: float) -> FastAPI:
    """An application that serves the page and passes its questions on; timeout: seconds for a reply."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.router.routes.extend(page_routes())

    async def pass_on(request: Request) -> Response:
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise ApiError(403, "Only the page of this server may ask here.")
        headers = {name: request.headers[name] for name in _TO_SERVER if name in request.headers}
        path = request.url.path.removeprefix("/v1")
        reply = await upstream.ask(request.method, path, headers, await request.body())
        passed = {name: reply.headers[name] for name in _TO_PAGE if name in reply.headers}
        return StreamingResponse(reply.body(), reply.status, passed | {"cache-control": "no-store"})

    for method, path in PASSED_ON:
        app.router.routes.append(Route(f"/v1{path}", pass_on, methods=[method]))
    handle_errors(app)
    app.add_middleware(Connection, timeout=timeout)
    return app
