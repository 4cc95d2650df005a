"""SIGTERM and Ctrl-C: replies that run or wait are finished, nobody new is let in, and the exit code is 0."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import time

import openai
import pytest
from live_server import SECONDS, LiveServer, StartServer, wait_until
from openai import OpenAI
from requests_to_tiny import HELLO, body, chat, for_client


def refused(server: LiveServer) -> bool:
    """Whether a new request gets nowhere."""
    try:
        return server.post("/v1/completions", {"prompt": "a", "max_tokens": 1}).status == 503
    except OSError:
        return True


def client_of(server: LiveServer) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=SECONDS, max_retries=0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_replies_are_finished(start_server: StartServer, number: signal.Signals) -> None:
    server = start_server("--max-num-seqs", "2")
    with client_of(server) as client, contextlib.ExitStack() as stack:
        alone = chat(client, max_tokens=1500).choices[0].message.content
        streams = [
            stack.enter_context(
                client.chat.completions.create(**for_client(body(messages=HELLO, max_tokens=1500, stream=True)))
            )
            for _ in range(2)
        ]
        waiting = stack.enter_context(server.connect())
        _send(waiting, body(messages=HELLO, max_tokens=50))
        wait_until(lambda: server.load == (2, 1))
        server.signal(number)
        wait_until(lambda: refused(server))
        for stream in streams:
            chunks = list(stream)
            assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == alone
            assert chunks[-1].choices[0].finish_reason == "length"
        response = b""
        while part := waiting.recv(1 << 16):
            response += part
        assert response.startswith(b"HTTP/1.1 200 ")
        assert json.loads(response.partition(b"\r\n\r\n")[2])["choices"][0]["message"]["content"] == (alone or "")[:50]
    assert server.wait() == 0
    _left_nothing(server)


def test_patience_has_an_end(start_server: StartServer) -> None:
    """A reply that takes longer than the time to drain ends with an error; the exit code is 0 all the same."""
    server = start_server("--drain-timeout", "1")
    with client_of(server) as client:
        stream = client.chat.completions.create(**for_client(body(messages=HELLO, max_tokens=8000, stream=True)))
        with stream:
            next(iter(stream))
            server.signal(signal.SIGTERM)
            with pytest.raises(openai.APIError):
                list(stream)
    assert server.wait() == 0
    _left_nothing(server)


def test_the_second_signal_does_not_wait(start_server: StartServer) -> None:
    server = start_server()
    with client_of(server) as client:
        stream = client.chat.completions.create(**for_client(body(messages=HELLO, max_tokens=8000, stream=True)))
        with stream:
            next(iter(stream))
            server.signal(signal.SIGTERM)
            wait_until(lambda: refused(server))
            began = time.monotonic()
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
            assert time.monotonic() - began < 10
    _left_nothing(server)


def test_idle(start_server: StartServer) -> None:
    server = start_server()
    with server.connect():  # an open connection without a request keeps nobody
        server.stop()
    _left_nothing(server)


def _send(connection: socket.socket, fields: object) -> None:
    data = json.dumps(fields).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
    connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)


def _left_nothing(server: LiveServer) -> None:
    """No engine, and the port is free."""
    server.stop()
    with socket.create_server(server.address):
        pass
