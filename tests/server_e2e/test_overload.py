"""More than the server takes: 429 with a time to come again, and replies that take too long are ended."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import openai
import pytest
from live_server import SECONDS, LiveServer, StartServer, wait_until
from openai import OpenAI
from requests_to_tiny import HELLO, body, chat, for_client

LONG = for_client(body(messages=HELLO, max_tokens=8000, stream=True))


@pytest.fixture(scope="module")
def small(start_server: StartServer) -> Iterator[LiveServer]:
    """Two replies run, three wait."""
    server = start_server("--max-num-seqs", "2", "--max-num-queued-reqs", "3", "--enable-request-id-headers")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def asker(small: LiveServer) -> Iterator[OpenAI]:
    """Its client."""
    with OpenAI(base_url=f"{small.url}/v1", api_key="none", timeout=SECONDS, max_retries=0) as client:
        yield client


@contextlib.contextmanager
def crowd(server: LiveServer, client: OpenAI) -> Iterator[None]:
    """Five long replies, as many as fit."""
    threads = [threading.Thread(target=_ask, args=(client,), daemon=True) for _ in range(3)]
    with contextlib.ExitStack() as running:
        for _ in range(2):
            running.enter_context(client.chat.completions.create(**LONG))
        for thread in threads:
            thread.start()
        wait_until(lambda: server.load == (2, 3))
        yield
    for thread in threads:
        thread.join(SECONDS)
    server.wait_idle()


def _ask(client: OpenAI) -> None:
    chat(client, max_tokens=20)


def test_a_full_queue(small: LiveServer, asker: OpenAI) -> None:
    with crowd(small, asker):
        with pytest.raises(openai.RateLimitError) as caught:
            chat(asker)
        assert caught.value.code == "queue_full"
        assert int(caught.value.response.headers["retry-after"]) >= 1
        assert small.get("/health").status == small.get("/ready").status == 200
    assert len(chat(asker).choices[0].message.content or "") == 24


def test_the_official_client_comes_again(small: LiveServer, asker: OpenAI) -> None:
    expected = chat(asker).choices[0].message.content
    found: list[str | None] = []
    patient = asker.with_options(max_retries=20)
    with crowd(small, asker):
        thread = threading.Thread(target=lambda: found.append(chat(patient).choices[0].message.content), daemon=True)
        thread.start()
        wait_until(lambda: 'status="429"' in small.get("/metrics").body.decode())
    thread.join(SECONDS)
    assert found == [expected]


def test_a_request_id_is_the_clients(small: LiveServer) -> None:
    assert small.ask("GET", "/health", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    strange = small.ask("GET", "/health", headers={"x-request-id": "a b\tc"}).headers["x-request-id"]
    assert strange.isalnum()


def test_replies_that_take_too_long(start_server: StartServer) -> None:
    server = start_server("--request-timeout", "1")
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=SECONDS, max_retries=0) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            chat(client, max_tokens=8000)
        assert caught.value.status_code == 408
        with client.chat.completions.create(**LONG) as stream, pytest.raises(openai.APIError, match="longer than 1 s"):
            list(stream)
        server.wait_idle()
        assert len(chat(client).choices[0].message.content or "") == 24
    server.stop()
