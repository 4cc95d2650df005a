"""The page's files over HTTP: a fixed table of paths, and headers that let a page load nothing from elsewhere."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = "/webui/"
"""Where the page's files are; the page itself is at /, and names them relative to it, whatever a proxy has before."""

MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
"""What a browser lets the page do: nothing inline, nothing from elsewhere, and no text ever becomes HTML."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-cache",  # asked for again each time, and answered with 304 while it is the same
    "vary": "accept-encoding",
}


@dataclass(frozen=True)
class PageFile:
    """A file and the path that it has on the server."""

    path: str
    content: bytes
    media_type: str

    @property
    def tag(self) -> str:
        """Its ETag, weak because it is that of the compressed content too."""
        return f'W/"{hashlib.sha256(self.content).hexdigest()[:16]}"'


def page_files() -> list[PageFile]:
    """Every file of the page, itself first."""
    folder = resources.files("ilmari.webui").joinpath("static")
    files = sorted((file.name, file.read_bytes()) for file in folder.iterdir())
    return sorted(
        (
            PageFile("/" if name == "index.html" else FOLDER + name, content, MEDIA_TYPES[name.rpartition(".")[2]])
            for name, content in files
        ),
        key=lambda file: file.path,
    )


def page_routes() -> list[Route]:
    """GET of each of them."""
    return [Route(file.path, _endpoint(file), methods=["GET"], include_in_schema=False) for file in page_files()]


def page_paths() -> tuple[str, ...]:
    """Their paths."""
    return tuple(file.path for file in page_files())


def _endpoint(file: PageFile) -> Callable[[Request], Awaitable[Response]]:
    tag = file.tag
    compressed = gzip.compress(file.content, mtime=0)

    async def answer(request: Request) -> Response:
        headers = HEADERS | {"etag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
            return Response(compressed, headers=headers, media_type=file.media_type)
        return Response(file.content, headers=headers, media_type=file.media_type)

    return answer
