"""The page in front of another server: its files, and the two endpoints that it asks, passed on to that server alone.

A browser lets a page ask only the server that it came from, unless the other one allows it (CORS). Passed on by this
one, any server will do.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import Headers
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


def create_relay(upstream: Upstream, timeout: float, loopback: bool) -> FastAPI:
    """An application that serves the page and passes its questions on.

    timeout: seconds for a reply. loopback: only this machine reaches it, so it has no name but this machine's own.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.router.routes.extend(page_routes())

    async def pass_on(request: Request) -> Response:
        if _is_foreign(request.headers):
            raise ApiError(403, "Only the page of this server may ask here.")
        if loopback and not _is_local(request.headers.get("host", "")):
            raise ApiError(403, "This server goes by the name of localhost or a loopback address only.")
        # A browser sends JSON to another site only if that one allows it; text it sends unasked.
        if request.method == "POST" and _media_type(request.headers) != "application/json":
            raise ApiError(415, "The body must be JSON, with the content type application/json.")
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


def _is_foreign(headers: Headers) -> bool:
    """Whether a browser asks for another site's page; to addresses that it does not trust it sends the origin alone."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site not in ("same-origin", "none")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def _is_local(host: str) -> bool:
    """Whether a Host is this machine's own name: any other one may have been pointed here by whoever owns it."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()
