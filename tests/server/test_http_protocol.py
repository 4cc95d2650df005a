"""HTTP on a real socket: heads that are too long, too slow or no HTTP at all, and requests one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from fake_engine import MakeApp
from fastapi import FastAPI
from uvicorn.server import ServerState

from ilmari.server.http_protocol import BoundedHttpProtocol
from ilmari.server.limits import MAX_HEAD_BYTES

GET = b"GET /health HTTP/1.1\r\nhost: here\r\n"
FILLING = b"x: " + b"a" * 1000 + b"\r\n"


@asynccontextmanager
async def connection(app: FastAPI) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client of a server for `app`."""
    config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False)
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BoundedHttpProtocol(config, ServerState(), {}), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (GET + b"\r\n", b"200"),
        (GET + b"x: " + b"a" * (MAX_HEAD_BYTES - 100) + b"\r\n\r\n", b"200"),
        (GET + b"x: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n", b"431"),
        (GET + b"x: " + b"a" * 4 * MAX_HEAD_BYTES, b"431"),
        (GET + FILLING * 100 + b"\r\n", b"431"),
        (b"GET /" + b"a" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nhost: here\r\n\r\n", b"431"),
        (b"junk\r\n\r\n", b"400"),
        (b"\x00\xff" * 100, b"400"),
        (b"GET /h\xffealth HTTP/1.1\r\n\r\n", b"400"),
    ],
    ids=lambda value: str(value[:16]),
)
def test_heads(make_app: MakeApp, sent: bytes, status: bytes) -> None:
    async def main() -> None:
        async with connection(make_app()) as (reader, writer):
            writer.write(sent)
            line = await asyncio.wait_for(reader.readline(), 10)
            assert line.split()[1] == status

    asyncio.run(main())


def test_one_after_the_other(make_app: MakeApp) -> None:
    """The bound is for each head, not for all of a connection."""

    async def main() -> None:
        async with connection(make_app()) as (reader, writer):
            for _ in range(3):
                writer.write(GET + FILLING * 40 + b"\r\n")
                assert (await asyncio.wait_for(reader.readline(), 10)).split()[1] == b"200"
                await asyncio.wait_for(reader.readuntil(b'{"status":"ok"}'), 10)

    asyncio.run(main())


@pytest.mark.parametrize("begun", [b"", b"\r\n", GET])
def test_slow_heads(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr("ilmari.server.http_protocol.HEAD_TIMEOUT_S", 0.05)

    async def main() -> None:
        async with connection(make_app()) as (reader, writer):
            writer.write(begun)
            assert await asyncio.wait_for(reader.read(), 10) == b""

    asyncio.run(main())
