"""Clients that leave, and how the engine stands then: nothing runs or waits for somebody who is gone."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from live_server import LiveServer, wait_until
from openai import OpenAI, Stream
from openai.types.chat import ChatCompletionChunk
from requests_to_tiny import HELLO, body, chat, chat_stream, for_client


def begin(client: OpenAI, **more: Any) -> Stream[ChatCompletionChunk]:
    """A long reply of which the first chunk is there."""
    stream: Stream[ChatCompletionChunk] = client.chat.completions.create(
        **for_client(body(messages=HELLO, stream=True, max_tokens=8000, **more))
    )
    next(iter(stream))
    return stream


def test_leaving_in_the_middle_of_a_stream(server: LiveServer, client: OpenAI) -> None:
    stream = begin(client)
    assert server.load == (1, 0)
    stream.close()
    server.wait_idle()


def test_leaving_all_replies_of_one_request(server: LiveServer, client: OpenAI) -> None:
    stream = begin(client, n=4)
    wait_until(lambda: server.load == (4, 0))
    stream.close()
    server.wait_idle()


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_leaving_before_a_whole_reply(server: LiveServer, path: str) -> None:
    """The client closes its connection after the request; the server learns of it while it computes."""
    prompt = {"prompt": "a"} if path == "/v1/completions" else {"messages": HELLO}
    with server.connect() as connection:
        _send(connection, path, body(max_tokens=8000, **prompt))
        wait_until(lambda: server.load == (1, 0))
    server.wait_idle()


def test_leaving_the_queue(server: LiveServer, client: OpenAI) -> None:
    """The engine is full; one that waits leaves, and the others are not touched."""
    running = begin(client, n=16)
    try:
        wait_until(lambda: server.load == (16, 0))
        with server.connect() as connection:
            _send(connection, "/v1/completions", body(prompt="a", max_tokens=8000))
            wait_until(lambda: server.load == (16, 1))
        wait_until(lambda: server.load == (16, 0))
    finally:
        running.close()
    server.wait_idle()


def test_a_stop_string_ends_the_reply_in_the_engine(server: LiveServer, client: OpenAI) -> None:
    text = chat(client).choices[0].message.content or ""
    assert chat(client, max_tokens=8000, stop=text[3:6]).choices[0].finish_reason == "stop"
    server.wait_idle()


def test_cancelled_replies_leave_the_others_as_they_are(server: LiveServer, client: OpenAI) -> None:
    expected = [chunk.choices for chunk in chat_stream(client, temperature=1, seed=1)]
    stream = begin(client, n=3)
    found = client.chat.completions.create(**for_client(body(messages=HELLO, stream=True, temperature=1, seed=1)))
    with found:
        first = next(iter(found))
        stream.close()
        texts = [first.choices[0].delta.content or "", *(chunk.choices[0].delta.content or "" for chunk in found)]
    assert "".join(texts) == "".join(choices[0].delta.content or "" for choices in expected)
    server.wait_idle()


def _send(connection: socket.socket, path: str, fields: object) -> None:
    data = json.dumps(fields).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    connection.sendall(head.encode() + data)
