"""A small HTTP/1.1 client on asyncio's streams.

No library: where the client shares a few cores with the server, what it takes for each token is taken from the reply.
This one takes 40 microseconds of a Zen 4 core for an event, its JSON included. And a torture must be able to send half
a request and to break off where it likes.

Each request has a connection of its own, which the server is asked to close: whatever follows the reply is a mistake.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

DONE = "[DONE]"
LIMIT = 1 << 16


class Broken(Exception):  # noqa: N818 - what came, not what to do
    """The reply is not whole, or is no HTTP."""


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Address:
        """That of `http://HOST:PORT`."""
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        return cls(parts.hostname, parts.port)


def head(method: str, path: str, length: int, request_id: str = "") -> bytes:
    """Request line and headers of a request whose body has `length` bytes of JSON."""
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", "connection: close"]
    lines += [f"x-request-id: {request_id}"] if request_id else []
    lines += ["content-type: application/json", f"content-length: {length}"] if length else []
    return "\r\n".join([*lines, "", ""]).encode()


class Exchange:
    """One request and its reply: an asynchronous context, at whose end the connection is gone."""

    def __init__(self, address: Address, window: int | None = None) -> None:
        """window: bytes that may be under way to a reader that does not read."""
        self._address = address
        self._window = window
        self.status = 0
        self.headers: dict[str, str] = {}

    async def __aenter__(self) -> Exchange:
        connection = socket.socket()
        connection.setblocking(False)
        if self._window:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._window)
        try:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(connection, (self._address.host, self._address.port))
        except BaseException:
            connection.close()
            raise
        limit = self._window or LIMIT
        self._reader, self._writer = await asyncio.open_connection(sock=connection, limit=limit)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Write bytes of the request."""
        self._writer.write(data)
        await self._writer.drain()

    async def post(self, path: str, body: dict[str, Any]) -> None:
        """Send a whole request, and read the reply's `status` and `headers`."""
        data = json.dumps(body).encode()
        await self.send(head("POST", path, len(data)) + data)
        await self.receive()

    async def get(self, path: str) -> bytes:
        """Send a request without a body, and read the whole reply."""
        await self.send(head("GET", path, 0))
        await self.receive()
        return await self.body()

    async def receive(self) -> None:
        """Read the reply's status and headers."""
        first, *lines = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        self.status = int(first.split(" ", 2)[1])
        pairs = (line.partition(":") for line in lines)
        self.headers = {name.strip().lower(): value.strip() for name, _, value in pairs}

    async def body(self) -> bytes:
        """The rest of the reply."""
        return b"".join([part async for part in self.parts()])

    async def parts(self) -> AsyncIterator[bytes]:
        """The body as it comes.

        Raises:
            Broken: it ends too early, or more follows.
        """
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(await self._until(b"\r\n"), 16):
                yield (await self._exactly(size + 2))[:-2]
            await self._exactly(2)
        else:
            yield await self._exactly(int(self.headers.get("content-length", "0")))
        if rest := await self._reader.read(1 << 10):
            raise Broken(f"after the reply there is {rest[:80]!r}")

    async def events(self) -> AsyncIterator[str]:
        """The data of each server-sent event."""
        buffer = b""
        async for part in self.parts():
            *whole, buffer = (buffer + part).split(b"\n\n")
            for event in whole:
                if event.startswith(b"data: "):
                    yield event[6:].decode()
        if buffer:
            raise Broken(f"the stream ends within an event: {buffer[:80]!r}")

    async def _until(self, end: bytes) -> bytes:
        try:
            return await self._reader.readuntil(end)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Broken("the connection ended before the reply") from error

    async def _exactly(self, size: int) -> bytes:
        try:
            return await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Broken("the connection ended within the reply") from error


async def fetch(address: Address, path: str) -> tuple[int, bytes]:
    """Status and body of a GET."""
    async with Exchange(address) as exchange:
        body = await exchange.get(path)
        return exchange.status, body
