"""API keys: every route but the health checks and the page asks for one, where the server has any."""

from __future__ import annotations

import hashlib
import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ilmari.server.errors import ApiError
from ilmari.webui.page import page_paths

OPEN_PATHS = ("/health", "/ready", *page_paths())
"""The page's files are the same everywhere and hold nothing of this server's; what it asks then needs a key."""


class Auth:
    """Answers 401 unless the request says `Authorization: Bearer KEY`."""

    def __init__(self, app: ASGIApp, keys: tuple[str, ...], root_path: str) -> None:
        self._app = app
        self._digests = [_digest(key.encode()) for key in keys]
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._digests and scope["path"].removeprefix(self._root_path) not in OPEN_PATHS:
            key = self._find(Headers(scope=scope).get("authorization", ""))
            if key is None:
                refusal = ApiError(
                    401,
                    "The API key is missing or wrong; send one as `Authorization: Bearer KEY`.",
                    code="invalid_api_key",
                    headers={"www-authenticate": "Bearer"},
                )
                await refusal.response(scope, receive, send)
                return
            scope["state"]["exchange"].key = key
        await self._app(scope, receive, send)

    def _find(self, authorization: str) -> int | None:
        """The place of the key that was sent. Each is compared whole, so the time tells nothing about them."""
        scheme, _, key = authorization.partition(" ")
        digest = _digest(key.strip().encode())
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return matches.index(True) if scheme.lower() == "bearer" and any(matches) else None


def _digest(key: bytes) -> bytes:
    """Of one length for all keys."""
    return hashlib.sha256(key).digest()
