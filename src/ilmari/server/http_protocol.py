"""HTTP/1.1 with bounds that uvicorn leaves open: how long a request's head may be, in bytes and in seconds."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ilmari.server.errors import ApiError
from ilmari.server.limits import HEAD_TIMEOUT_S, MAX_HEAD_BYTES

_FIELD_BYTES = len(": \r\n")


class _HeadTooLongError(Exception):
    pass


class BoundedHttpProtocol(HttpToolsProtocol):
    """Ends a connection whose request line and headers are too long or come too slowly."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unparsed = 0
        self._in_head = True
        self._too_long = False
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._await_head()
            self._unparsed += len(data)
        super().data_received(data)
        # The parser keeps what is no whole header yet, however long it becomes.
        if self._in_head and self._unparsed > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._too_long = True
            self.send_400_response("")

    def on_headers_complete(self) -> None:
        self._stop_timer()
        self._in_head = False
        self._unparsed = 0
        fields = sum(len(name) + len(value) + _FIELD_BYTES for name, value in self.headers)
        if len(self.url) + fields > MAX_HEAD_BYTES:
            self._too_long = True
            raise _HeadTooLongError  # which uvicorn answers with `send_400_response`
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002, uvicorn's words
        error = ApiError(400, "The request is not valid HTTP/1.1.")
        if self._too_long:
            error = ApiError(431, f"The request's head is longer than {MAX_HEAD_BYTES >> 10} KiB; send less.")
        body = error.response.body
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[error.status] + head + bytes(body))
        self.transport.close()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def _give_up(self) -> None:
        self._head_timer = None
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
