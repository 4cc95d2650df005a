"""A light HTTP/1.1 client: where it shares a few cores with the server, what it takes is taken from the replies.

Connections are kept and used again, as OpenAI's own clients do.
"""

from __future__ import annotations

import asyncio
import ssl
from types import TracebackType

from ilmari.bench.serve.connection import Connection, LostError, OnData, Response
from ilmari.bench.serve.target import Target

CONNECT_S = 10.0


class Client:
    """An asynchronous context, at whose end its connections are gone."""

    def __init__(self, target: Target, api_key: str | None = None) -> None:
        self.url = target.url
        self.within_host = False
        self._target = target
        self._key = api_key
        self._ssl = ssl.create_default_context() if target.tls else None
        self._idle: list[Connection] = []

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        while self._idle:
            self._idle.pop().close()

    async def get(self, path: str) -> Response:
        """Ask for `path`, which follows the API's version.

        Raises:
            LostError, OSError: no whole reply came, or the server cannot be reached.
        """
        return await self._exchange(self._head("GET", path, 0), None)

    async def post(self, path: str, body: bytes, on_data: OnData | None = None) -> Response:
        """Send JSON; a reply with status 200 goes to `on_data` as it comes, if that is given.

        Raises:
            LostError, OSError: as `get`.
        """
        return await self._exchange(self._head("POST", path, len(body)) + body, on_data)

    async def _exchange(self, request: bytes, on_data: OnData | None) -> Response:
        while self._idle:
            connection = self._idle.pop()
            if not connection.usable:
                continue
            try:
                return await self._on(connection, request, on_data)
            except LostError:
                # A server may close an idle connection just when a request is sent.
                if connection.answered:
                    raise
        return await self._on(await self._connect(), request, on_data)

    async def _on(self, connection: Connection, request: bytes, on_data: OnData | None) -> Response:
        response = await connection.exchange(request, on_data)
        if connection.usable:
            self._idle.append(connection)
        return response

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                _, connection = await loop.create_connection(
                    Connection, self._target.host, self._target.port, ssl=self._ssl
                )
        except TimeoutError:
            raise OSError(f"no connection within {CONNECT_S:g} s") from None
        self.within_host = connection.within_host
        return connection

    def _head(self, method: str, path: str, length: int) -> bytes:
        lines = [f"{method} {self._target.path}{path} HTTP/1.1", f"host: {self._target.host_header}", "accept: */*"]
        lines += [f"authorization: Bearer {self._key}"] if self._key else []
        lines += ["content-type: application/json", f"content-length: {length}"] if length else []
        return "\r\n".join([*lines, "", ""]).encode()
