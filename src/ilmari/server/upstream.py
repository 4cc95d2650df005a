"""Another server of OpenAI's API, asked over HTTP/1.1 with one connection for each request."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

import httptools

from ilmari.errors import ConfigError
from ilmari.http_url import HttpUrl, split_url
from ilmari.server.errors import ApiError

CONNECT_TIMEOUT_S = 10.0

_READ_BYTES = 1 << 16


@dataclass(frozen=True)
class Upstream(HttpUrl):
    """The server at `url`; `path` is what its endpoints begin with."""

    url: str

    @classmethod
    def parse(cls, url: str) -> Upstream:
        """From the base URL that users know, with /v1 at its end or without any path.

        Raises:
            ConfigError: it is no such URL.
        """
        parts = split_url(url)
        if parts is None:
            raise ConfigError(f"The API's base URL is {url!r}; expected one such as http://127.0.0.1:8000/v1.")
        return cls(parts.host, parts.port, parts.tls, parts.path or "/v1", url)

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> UpstreamReply:
        """Send a request and read the head of its reply.

        Raises:
            ApiError: the server cannot be reached, or what it says is no HTTP.
        """
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                tls = ssl.create_default_context() if self.tls else None
                reader, writer = await asyncio.open_connection(self.host, self.port, ssl=tls)
        except OSError as error:  # a timeout and TLS's errors are such too
            raise ApiError(502, f"{self.url} cannot be reached ({_reason(error)}); start its server.") from error
        reply = UpstreamReply(reader, writer)
        try:
            writer.write(self._head(method, path, headers, body) + body)
            await writer.drain()
            await reply.read_head()
        except (OSError, httptools.HttpParserError) as error:
            reply.close()
            raise ApiError(502, f"{self.url} has given no answer ({_reason(error)}).") from error
        except BaseException:
            reply.close()
            raise
        return reply

    def _head(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        fields = {
            **headers,
            "host": self.host_header,
            "content-length": str(len(body)),
            "connection": "close",
        }
        lines = [f"{method} {self.path}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class UpstreamReply:
    """A reply whose head was read; `headers` has names in lower case."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.headers: dict[str, str] = {}
        self.status = 0
        self._reader = reader
        self._writer = writer
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._whole = False

    async def read_head(self) -> None:
        """Up to where the body begins."""
        while not self.status:
            await self._feed()
            if self._whole and not self.status:
                raise ConnectionResetError("it closed the connection")

    async def body(self) -> AsyncGenerator[bytes]:
        """The body as it comes; it ends early if the server does. Leaving closes the connection."""
        try:
            while self._pieces or not self._whole:
                if self._pieces:
                    yield b"".join(self._pieces)
                    self._pieces.clear()
                else:
                    await self._feed()
        except (OSError, httptools.HttpParserError):
            return  # whoever reads sees that the stream's last event is missing
        finally:
            self.close()

    def close(self) -> None:
        """Ends the request in the server too, if it is not over."""
        self._writer.close()

    async def _feed(self) -> None:
        data = await self._reader.read(_READ_BYTES)
        if data:
            self._parser.feed_data(data)
        else:
            self._whole = True

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """All headers."""
        self.status = self._parser.get_status_code()

    def on_body(self, piece: bytes) -> None:
        """A piece of the body, out of its chunks."""
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """The end of the body."""
        self._whole = True


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error) or "it took too long"
