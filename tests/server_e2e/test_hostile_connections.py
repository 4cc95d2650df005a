"""Connections that ask for too much or too slowly: they are ended in time, and meanwhile others are served."""

from __future__ import annotations

import contextlib
import http.client
import json
import pickle
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from live_server import LiveServer, StartServer, wait_until
from requests_to_tiny import body

HEAD_S, BODY_S, REPLY_S = 1.0, 2.0, 3.0
HURRIED = f"""\
from ilmari.server import limits
limits.HEAD_TIMEOUT_S, limits.BODY_TIMEOUT_S = {HEAD_S}, {BODY_S}
from ilmari.cli.app import main
main()
"""
LATE = 15.0
"""Seconds beyond a limit that a busy machine may take."""

POST = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def hurried(start_server: StartServer) -> Iterator[LiveServer]:
    """A server whose time limits are a tenth of the real ones."""
    server = start_server("--request-timeout", str(REPLY_S), program=(sys.executable, "-P", "-c", HURRIED))
    yield server
    server.wait_idle()
    server.stop()


def answers(server: LiveServer) -> bool:
    """Whether somebody else is served."""
    return server.post("/v1/completions", {"prompt": "a", "max_tokens": 1}).status == 200


def read_to_end(connection: socket.socket) -> bytes:
    """Everything until the server closes; a reset is an end too."""
    data = b""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while part := connection.recv(1 << 16):
            data += part
    return data


def status(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


def trickle(connection: socket.socket, data: bytes, seconds: float) -> None:
    """Send a byte now and then for so long, or until the connection is closed."""
    end = time.monotonic() + seconds
    for byte in data:
        if time.monotonic() > end:
            return
        try:
            connection.sendall(bytes([byte]))
        except (ConnectionResetError, BrokenPipeError):
            return
        time.sleep(0.1)


def test_silent_connections(hurried: LiveServer) -> None:
    began = time.monotonic()
    with ExitStack() as stack:
        silent = [stack.enter_context(hurried.connect()) for _ in range(100)]
        assert answers(hurried)
        for connection in silent:
            assert read_to_end(connection) == b""
    assert time.monotonic() - began < HEAD_S + LATE


@pytest.mark.parametrize("data", [b"GET /health HTTP/1.1\r\nX-A: " + b"a" * 1000, b"GET /" + b"a" * 1000])
def test_slow_head(hurried: LiveServer, data: bytes) -> None:
    with hurried.connect() as connection:
        began = time.monotonic()
        trickle(connection, data, HEAD_S + LATE)
        assert HEAD_S - 0.1 < time.monotonic() - began < HEAD_S + LATE
        assert answers(hurried)


def test_slow_body(hurried: LiveServer) -> None:
    with hurried.connect() as connection:
        connection.sendall(POST + b"Content-Length: 1000\r\n\r\n")
        trickle(connection, b'{"prompt": "' + b"a" * 1000, BODY_S + 0.5)
        response = read_to_end(connection)
    assert status(response) == 408
    assert json.loads(response.partition(b"\r\n\r\n")[2])["error"]["type"] == "timeout_error"
    assert answers(hurried)


def test_a_body_that_never_comes(hurried: LiveServer) -> None:
    with hurried.connect() as connection:
        connection.sendall(POST + b"Content-Length: 1000000000000\r\n\r\n{")
        response = read_to_end(connection)
    assert status(response) in (408, 413)


def test_a_client_that_does_not_read(hurried: LiveServer) -> None:
    """Its reply fills every buffer; it costs nobody else anything, and ends with the time that replies have."""
    data = json.dumps(body(prompt="a", max_tokens=8000, stream=True, logprobs=20)).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect(hurried.address)
        connection.sendall(POST + f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
        wait_until(lambda: hurried.metric("ilmari:http_requests_in_flight") == 2)
        assert answers(hurried)
        wait_until(lambda: hurried.metric("ilmari:http_requests_in_flight") == 1)
        hurried.wait_idle()


def test_connections_stay_open_between_requests(hurried: LiveServer) -> None:
    connection = http.client.HTTPConnection(*hurried.address, timeout=30)
    with contextlib.closing(connection):
        connection.connect()
        opened = connection.sock
        for _ in range(3):
            connection.request("GET", "/health")
            with connection.getresponse() as response:
                assert (response.status, bool(response.read())) == (200, True)
            assert connection.sock is opened


HEADS = {
    "one header": b"GET /health HTTP/1.1\r\nX-A: " + b"a" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET /health HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(20_000)) + b"\r\n",
    "path": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    "header without an end": b"GET /health HTTP/1.1\r\nX-A: " + b"a" * 200_000,
    "method without an end": b"G" * 200_000,
}


@pytest.mark.parametrize("data", HEADS.values(), ids=HEADS)
def test_huge_heads(server: LiveServer, data: bytes) -> None:
    with server.connect() as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(data)
        response = read_to_end(connection)
    assert response == b"" or status(response) in (400, 431)
    assert answers(server)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize", "/nothing"])
@pytest.mark.parametrize("chunked", [False, True])
def test_huge_bodies(server: LiveServer, path: str, chunked: bool) -> None:
    size = 5 << 20
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
    length = b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: %d\r\n\r\n" % size
    data = b" " * size
    with server.connect() as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(head + length + (b"%x\r\n%s\r\n0\r\n\r\n" % (size, data) if chunked else data))
        response = read_to_end(connection)
    assert response == b"" or status(response) == 413
    assert answers(server)


@pytest.mark.parametrize("path", ["/", "/v1/chat/completions", "/v1/realtime"])
def test_no_web_sockets(server: LiveServer, path: str) -> None:
    upgrade = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    keys = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    frame = b"\x82\xfe\xff\xff" + pickle.dumps(b"a" * 60_000)
    with server.connect() as connection:
        connection.sendall((upgrade + keys).encode())
        assert status(connection.recv(1 << 16)) in (200, 404, 405)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(frame)
            connection.shutdown(socket.SHUT_WR)
        read_to_end(connection)
    assert answers(server)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 300,
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n\r\nhello\r\n\r\n",
        b"GET /health HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/models HTTP/1.1\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /health HTTP/1.1\r\nX-A: a\x00b\r\n\r\n",
    ],
    ids=["TLS", "version", "lines", "negative length", "two lengths", "chunk", "null"],
)
def test_no_http(server: LiveServer, data: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        response = read_to_end(connection)
    assert response == b"" or status(response) == 400
    assert response.count(b"HTTP/1.1 ") <= 1
    assert answers(server)
