"""One HTTP/1.1 connection, which notes when bytes arrive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httptools

SILENCE_S = 600.0
"""A reply of which nothing came for so long does not come any more."""

OnData = Callable[[float, bytes], None]
"""on_data(now, data): a part of a body, and when it arrived on the clock of `time.perf_counter`."""


class LostError(Exception):
    """A reply that is not whole; the message says what happened to it."""


@dataclass
class Response:
    """What a server answered; header names are in lower case."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)


class Connection(asyncio.Protocol):
    """Takes one request at a time.

    Bytes are noted in the event loop's own callback, before anything is done with them: no task has to wake up first.
    """

    def __init__(self) -> None:
        self.usable = False
        self._response = Response()
        self._whole: asyncio.Future[None] | None = None

    async def exchange(self, request: bytes, on_data: OnData | None = None) -> Response:
        """Send a request; its reply, whose body goes to `on_data` as it comes if the status is 200.

        Raises:
            LostError: the reply is not whole.
            TimeoutError: nothing came for `SILENCE_S` seconds.
        """
        self.usable = False
        self._response = Response()
        self._on_data = on_data
        self._parser = httptools.HttpResponseParser(self)
        self._heard = time.perf_counter()
        self._whole = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            while not (await asyncio.wait([self._whole], timeout=SILENCE_S))[0]:
                if time.perf_counter() - self._heard > SILENCE_S:
                    raise TimeoutError(f"nothing came for {SILENCE_S:g} s")
            self._whole.result()
        except BaseException:
            self._whole.cancel()
            self.close()
            raise
        return self._response

    @property
    def answered(self) -> bool:
        """Whether anything came of the last reply."""
        return self._response.status > 0

    @property
    def within_host(self) -> bool:
        """Whether it ends on the machine on which it begins."""
        here, there = (self._transport.get_extra_info(name) for name in ("sockname", "peername"))
        return bool(here and there and here[0] == there[0])

    def close(self) -> None:
        """End it at once."""
        self.usable = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._now = self._heard = time.perf_counter()
        if self._whole is None or self._whole.done():
            self.close()  # nothing was asked
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("what came is no HTTP")

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        framed = {"content-length", "transfer-encoding"} & self._response.headers.keys()
        if self._response.status and not framed and exc is None:
            self._end()  # the reply lasts as long as the connection
        else:
            self._fail("the connection ended before the reply was whole")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._response.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._response.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if self._on_data and self._response.status == 200:
            self._on_data(self._now, body)
        else:
            self._response.body += body

    def on_message_complete(self) -> None:
        self.usable = self._parser.should_keep_alive() and not self._transport.is_closing()
        self._end()

    def _end(self) -> None:
        if self._whole and not self._whole.done():
            self._whole.set_result(None)

    def _fail(self, why: str) -> None:
        if self._whole and not self._whole.done():
            self._whole.set_exception(LostError(why))
