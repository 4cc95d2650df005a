"""API keys: all but health and the page want one, none is ever told, and the cache of one is closed to the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from live_server import SECONDS, LiveServer, StartServer
from openai import OpenAI
from requests_to_tiny import chat, complete

from ilmari.webui.page import page_files

FIRST, SECOND = "sk-first-0123456789", "sk-second-0123456789"
PREFIX = [7] * 300


@pytest.fixture(scope="module")
def locked(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with a key of its command line, and one of a file."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"# those who may ask\n\n{SECOND}\n", encoding="utf-8")
    server = start_server("--api-key", FIRST, "--api-key-file", keys)
    yield server
    server.stop()


def client_with(server: LiveServer, key: str) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key=key, timeout=SECONDS, max_retries=0)


def authorized(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_every_route_wants_a_key(locked: LiveServer) -> None:
    openapi = locked.ask("GET", "/openapi.json", headers=authorized(FIRST)).json
    asked = [(method.upper(), path) for path, operations in openapi["paths"].items() for method in operations]
    assert len(asked) >= 10
    more = [("GET", "/openapi.json"), ("GET", "/docs"), ("GET", "/webui/nothing"), ("OPTIONS", "/v1/models")]
    for method, path in [*asked, *more]:
        answer = locked.ask(method, path.replace("{name}", "tiny"))
        if path in ("/health", "/ready"):
            assert answer.status == 200
        else:
            assert answer.status == 401, (method, path)
            assert answer.error["code"] == "invalid_api_key"
            assert answer.headers["www-authenticate"].startswith("Bearer")


def test_the_page_wants_none(locked: LiveServer) -> None:
    """It is how a reader gets to send a key; its files are the same on every server, and say nothing of this."""
    for file in page_files():
        answer = locked.get(file.path)
        assert (answer.status, answer.body) == (200, file.content)
        assert locked.post(file.path, {}).status == 405


@pytest.mark.parametrize(
    "path",
    [
        *("//v1/models", "/v1/models/", "/health/../v1/models", "/health/v1/models", "/health?/v1/models", "/HEALTH"),
        *("/webui/../v1/models", "/webui/app.js/../../v1/models", "/webui/app.js/v1/models", "/webui/", "/;/v1/models"),
    ],
)
def test_no_way_around(locked: LiveServer, path: str) -> None:
    answer = locked.get(path)
    assert answer.status == 401 or answer.json == {"status": "ok"}


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {FIRST[:-1]}",
        f"Bearer {FIRST}x",
        f"Bearer {FIRST.upper()}",
        f"Bearer {FIRST} {FIRST}",
        f"Basic {FIRST}",
        FIRST,
        "Bearer # those who may ask",
        "Bearer " + "x" * 10_000,
        "Bearer \xe6\xf8\xe5",
    ],
)
def test_wrong_keys(locked: LiveServer, value: str) -> None:
    assert locked.ask("GET", "/v1/models", headers={"authorization": value}).status == 401


def test_both_keys_work(locked: LiveServer) -> None:
    texts = []
    for key in (FIRST, SECOND):
        with client_with(locked, key) as client:
            texts.append(chat(client).choices[0].message.content)
    assert texts[0] == texts[1]
    assert locked.ask("GET", "/metrics", headers=authorized(SECOND)).status == 200


def test_the_client_says_what_is_wrong(locked: LiveServer) -> None:
    with client_with(locked, "sk-wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
        chat(client)
    assert caught.value.code == "invalid_api_key"
    assert "sk-" not in caught.value.message


def test_unknown_callers_cannot_fill_the_server(locked: LiveServer) -> None:
    """They are refused before their bodies are read."""
    assert locked.post("/v1/completions", b"x" * 1000).status == 401
    with locked.connect() as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 401 ")


def test_the_log_has_no_keys(locked: LiveServer) -> None:
    locked.ask("GET", "/v1/models", headers=authorized(FIRST))
    log = locked.log.read_text()
    assert '"api_key": 0' in log
    assert FIRST not in log
    assert SECOND not in log


def cached(client: OpenAI, prompt: list[int], **fields: str) -> int:
    """How many of the prompt's tokens were found in the prefix cache."""
    usage = complete(client, prompt, max_tokens=1, **fields).usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    return usage.prompt_tokens_details.cached_tokens or 0


def test_keys_share_no_cache(locked: LiveServer) -> None:
    with client_with(locked, FIRST) as first, client_with(locked, SECOND) as second:
        assert cached(first, PREFIX) == 0
        assert cached(first, PREFIX) > len(PREFIX) // 2
        assert cached(second, PREFIX) == 0
        assert cached(second, PREFIX) > len(PREFIX) // 2


def test_salts_share_no_cache(locked: LiveServer) -> None:
    with client_with(locked, FIRST) as first, client_with(locked, SECOND) as second:
        prompt = [8, *PREFIX]
        assert cached(first, prompt, cache_salt="a") == 0
        assert cached(first, prompt, cache_salt="b") == 0
        assert cached(first, prompt) == 0
        assert cached(second, prompt, cache_salt="a") == 0
        assert cached(first, prompt, cache_salt="a") > len(PREFIX) // 2


def test_salts_do_not_imitate_keys(locked: LiveServer) -> None:
    """Whatever is made of key and salt, no salt of one key is another key without one."""
    with client_with(locked, FIRST) as first, client_with(locked, SECOND) as second:
        prompt = [9, *PREFIX]
        assert cached(second, prompt) == 0
        for salt in ("1", ":1", "1:", ":", SECOND, "None"):
            assert cached(first, prompt, cache_salt=salt) == 0


def test_keys_that_cannot_be_sent_are_refused(start_server: StartServer, tmp_path: Path) -> None:
    empty = tmp_path / "keys"
    empty.write_text("# none\n", encoding="utf-8")
    for flags in (("--api-key", ""), ("--api-key", "a b"), ("--api-key-file", empty)):
        with pytest.raises(AssertionError, match="error: "):
            start_server(*flags)
