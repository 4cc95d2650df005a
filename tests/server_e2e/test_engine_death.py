"""The engine's process is killed: who waits is told, the server says so, and a moment later it serves again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from live_server import ILMARI, SECONDS, LiveServer, StartServer, wait_until
from openai import OpenAI
from requests_to_tiny import HELLO, body, chat, for_client


@pytest.fixture
def mortal(start_server: StartServer) -> Iterator[LiveServer]:
    """A server whose engine may die."""
    server = start_server("--max-num-seqs", "4")
    yield server
    server.engines = server.children()
    server.stop()


@pytest.fixture
def asker(mortal: LiveServer) -> Iterator[OpenAI]:
    """Its client."""
    with OpenAI(base_url=f"{mortal.url}/v1", api_key="none", timeout=SECONDS, max_retries=0) as client:
        yield client


class Asker(threading.Thread):
    """Asks for a long reply; keeps how it ended."""

    def __init__(self, client: OpenAI, stream: bool) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._stream = stream
        self.error: openai.APIError | None = None
        self.start()

    def run(self) -> None:
        """Until there is an error, or no more."""
        fields = for_client(body(messages=HELLO, max_tokens=8000, stream=self._stream))
        try:
            reply = self._client.chat.completions.create(**fields)
            if self._stream:
                list(reply)
        except openai.APIError as error:
            self.error = error


def kill_engine(server: LiveServer) -> None:
    (engine,) = server.children()
    os.kill(engine, signal.SIGKILL)


def test_killed_under_load(mortal: LiveServer, asker: OpenAI) -> None:
    expected = chat(asker).choices[0].message.content
    for _ in range(3):
        askers = [Asker(asker, stream=index % 2 == 0) for index in range(6)]
        wait_until(lambda: mortal.load == (4, 2))
        (before,) = mortal.children()
        kill_engine(mortal)
        wait_until(lambda: mortal.get("/health").status == 503)
        answer = mortal.get("/ready")
        assert (answer.status, answer.error["type"]) == (503, "service_unavailable_error")
        refused = mortal.post("/v1/chat/completions", body(messages=HELLO))
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
        for thread in askers:
            thread.join(SECONDS)
            assert not thread.is_alive()
            assert thread.error is not None
            assert "engine" in thread.error.message
        wait_until(lambda: mortal.get("/health").status == 200)
        (after,) = mortal.children()
        assert after != before
        assert chat(asker).choices[0].message.content == expected
        mortal.wait_idle()
    assert mortal.metric("ilmari:engine_restarts_total") == 3


def test_the_official_client_tries_again_by_itself(mortal: LiveServer, asker: OpenAI) -> None:
    expected = chat(asker).choices[0].message.content
    kill_engine(mortal)
    assert chat(asker.with_options(max_retries=20)).choices[0].message.content == expected


def test_two_models_die_each_by_itself(served_artifact: Path, tmp_path: Path) -> None:
    models = ("--model", f"a={served_artifact}", "--model", f"b={served_artifact}")
    server = LiveServer([*ILMARI, "serve", *models, "--port", "0"], tmp_path / "log")
    try:
        engines = sorted(server.children())
        assert len(engines) == 2
        os.kill(engines[0], signal.SIGKILL)
        statuses = {}
        wait_until(lambda: server.get("/health").status == 503)
        for name in "ab":
            statuses[name] = server.post("/v1/completions", {"model": name, "prompt": "a", "max_tokens": 1}).status
        assert sorted(statuses.values()) == [200, 503]
        assert server.post("/v1/completions", {"prompt": "a"}).error["param"] == "model"
        wait_until(lambda: server.get("/health").status == 200)
        server.engines |= server.children()
        server.stop()
    finally:
        server.kill()


def test_the_engine_ends_with_the_front_end(start_server: StartServer) -> None:
    server = start_server()
    (engine,) = server.engines
    server.signal(signal.SIGKILL)
    server.wait()

    def gone() -> bool:
        try:
            os.kill(engine, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(gone)
