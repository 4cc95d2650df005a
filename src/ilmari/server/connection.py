"""What a client may do to the server: send a bounded body in bounded time, wait for so long, and leave."""

from __future__ import annotations

import asyncio
import contextlib
import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ilmari.server.errors import ApiError
from ilmari.server.limits import BODY_TIMEOUT_S, MAX_BODY_BYTES
from ilmari.server.sse import event

_LAST_WORDS_S = 1.0


class Connection:
    """Reads a request whole, then runs the application until it has answered, the client is gone or time is up.

    Whatever the application awaits is cancelled with it, so a request that nobody waits for ends in the engine too.
    """

    def __init__(self, app: ASGIApp, timeout: float) -> None:
        """timeout: seconds for the whole reply."""
        self._app = app
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await _read_body(receive)
        except TimeoutError:
            late = ApiError(408, f"The body did not arrive within {BODY_TIMEOUT_S:g} s.", headers=_CLOSE)
            await late.response(scope, receive, send)
        except ApiError as error:
            await error.response(scope, receive, send)
        else:
            if body is not None:
                await self._run(scope, body, receive, send)

    async def _run(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        reply = _Reply(send)
        answer = asyncio.ensure_future(self._app(scope, _replay(body), reply.send))
        leaving = asyncio.ensure_future(_disconnect(receive))
        end: ApiError | None = None
        try:
            done, _ = await asyncio.wait({answer, leaving}, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                end = ApiError(408, f"The reply took longer than {self._timeout:g} s; ask for less.", code="timeout")
        except asyncio.CancelledError:  # the server waits no longer
            done = set()
            end = ApiError(503, "The server is shutting down; ask another.", code="draining")
        for task in (answer, leaving):
            task.cancel()
        await asyncio.wait({answer, leaving})
        if answer in done:
            answer.result()
        elif end is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await reply.end(end, scope, receive)


class _Reply:
    """What was sent of a reply, so that another can take its place or its end."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._whole = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        else:
            self._whole = not message.get("more_body", False)
        await self._send(message)

    async def end(self, error: ApiError, scope: Scope, receive: Receive) -> None:
        """With `error`, unless it ended just as it was to be cancelled."""
        if self._whole:
            return
        if self._start is None:
            await error.response(scope, receive, self._send)
        elif dict(self._start["headers"]).get(b"content-type", b"").startswith(b"text/event-stream"):
            await self._send({"type": "http.response.body", "body": event(json.dumps(error.reply))})


_CLOSE = {"connection": "close"}


async def _read_body(receive: Receive) -> bytes | None:
    """The body; None if the client left before it was whole."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(413, f"The body is longer than {MAX_BODY_BYTES >> 20} MiB; send less.", headers=_CLOSE)
        if not message.get("more_body", False):
            return bytes(body)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _replay(body: bytes) -> Receive:
    """Gives the body once, and then nothing: `Connection` itself watches for the client's leaving."""
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": body}

    return receive
