"""`ilmari webui`: the page in front of another server, whose replies come through as they are written, and no more."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_page import OpenPage, until
from live_server import SECONDS, LiveServer
from scripted_server import Reply, ScriptedServer

from ilmari.errors import ConfigError
from ilmari.server.upstream import Upstream

ILMARI = (sys.executable, "-P", "-m", "ilmari", "webui", "--api-base-url")
VASTGENX = (sys.executable, "-P", "-c", "from ilmari.compat.vastgenx import main; main()", "webui", "--api_base_url")
HELLO = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
JSON = {"content-type": "application/json"}

OTHERS = [
    ("GET", "/v1/chat/completions", 405),
    ("POST", "/v1/models", 405),
    ("POST", "/v1/completions", 404),
    ("GET", "/v1/models/tiny", 404),
    ("GET", "/metrics", 404),
    ("GET", "http://127.0.0.1:1/metrics", 404),
    ("GET", "/v1/../v1/models", 404),
    ("GET", "//127.0.0.1:1/v1/models", 404),
    ("GET", "/webui/../page.py", 404),
]

FOREIGN = [
    ({"sec-fetch-site": "cross-site"}, 403),
    ({"sec-fetch-site": "same-site"}, 403),
    ({"origin": "http://evil.example"}, 403),
    ({"origin": "http://127.0.0.1:1"}, 403),
    ({"origin": "null"}, 403),
    ({"host": "evil.example", "origin": "http://evil.example"}, 403),
    ({"host": "[", "origin": "http://["}, 403),
    ({"content-type": "text/plain"}, 415),
    ({"content-type": ""}, 415),
]


@pytest.fixture
def relay(server: ScriptedServer, tmp_path: Path) -> Iterator[LiveServer]:
    """The command, in front of the scripted server."""
    relay = LiveServer([*ILMARI, f"{server.url}/v1", "--port", "0"], tmp_path / "log")
    try:
        yield relay
        relay.stop()
    finally:
        relay.kill()


def test_what_comes_through(relay: LiveServer, server: ScriptedServer) -> None:
    server.key = "sk-right"
    assert relay.get("/v1/models").status == 401
    key = {"authorization": "Bearer sk-right"}
    models = relay.ask("GET", "/v1/models", headers=key)
    assert [model["id"] for model in models.json["data"]] == ["tiny", "other"]
    reply = relay.post("/v1/chat/completions", HELLO, key)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert b"You said: Hi" in reply.body
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert server.requests == [HELLO]
    server.replies.append(Reply(refusal=(429, b'{"error": {"message": "Full."}}')))
    refused = relay.post("/v1/chat/completions", HELLO, key)
    assert (refused.status, refused.json) == (429, {"error": {"message": "Full."}})


def test_pieces_come_as_they_are_written(relay: LiveServer, server: ScriptedServer) -> None:
    server.replies.append(Reply(("One", "Two"), holds_after=1))
    with relay.open("POST", "/v1/chat/completions", json.dumps(HELLO).encode(), JSON) as response:
        assert b"One" in response.readline()
        server.gate.set()
        assert b"Two" in response.read()


def test_who_leaves_ends_the_reply(relay: LiveServer, server: ScriptedServer) -> None:
    server.replies.append(Reply(("One", "Two"), holds_after=1))
    with relay.open("POST", "/v1/chat/completions", json.dumps(HELLO).encode(), JSON) as response:
        assert b"One" in response.readline()
    until(lambda: server.left_early == 1)


def test_nothing_else_comes(relay: LiveServer, server: ScriptedServer) -> None:
    for method, path, status in OTHERS:
        answer = relay.ask(method, path, b"{}" if method == "POST" else None)
        assert answer.status == status, path
    assert server.requests == []


def test_other_sites_may_not_ask(relay: LiveServer, server: ScriptedServer) -> None:
    for headers, status in FOREIGN:
        assert relay.post("/v1/chat/completions", HELLO, headers).status == status, headers
    assert server.requests == []
    assert "access-control-allow-origin" not in relay.get("/v1/models").headers
    own = "{}:{}".format(*relay.address)
    for headers in ({"origin": f"http://{own}"}, {"host": "localhost:1"}, {"host": "[::1]:1"}):
        assert relay.post("/v1/chat/completions", HELLO, headers).status == 200, headers
    # A proxy that ends TLS may have changed the host; the browser itself says whose page it is.
    own_page = {"origin": "https://chat.example", "sec-fetch-site": "same-origin"}
    assert relay.post("/v1/chat/completions", HELLO, own_page).status == 200


def test_a_server_that_is_gone(relay: LiveServer, server: ScriptedServer) -> None:
    server.stop()
    answer = relay.post("/v1/chat/completions", HELLO)
    assert answer.status == 502
    assert server.url in answer.error["message"]
    server.start()
    assert relay.get("/v1/models").status == 200


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "ftp://a",
        "http://",
        "http://a:b@c",
        "http://a:99999",
        "http://a?b",
        "http://ä",
        "http://a b",
        "http://a\n",
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ConfigError, match="The API's base URL is "):
        Upstream.parse(url)


@pytest.mark.parametrize(
    ("url", "port", "path"),
    [
        ("http://a", 80, "/v1"),
        ("http://a:9000/", 9000, "/v1"),
        ("https://a/v1/", 443, "/v1"),
        ("http://[::1]:1/b/v1", 1, "/b/v1"),
    ],
)
def test_urls(url: str, port: int, path: str) -> None:
    upstream = Upstream.parse(url)
    assert (upstream.port, upstream.path) == (port, path)


@pytest.mark.parametrize("command", [ILMARI, VASTGENX], ids=["ilmari", "vastgenx"])
def test_commands_say_so(command: tuple[str, ...]) -> None:
    done = subprocess.run([*command, "x", "--port", "0"], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.browser
def test_the_recipe_s_command(open_page: OpenPage, server: ScriptedServer, tmp_path: Path) -> None:
    """The vendor's flags, with the URL that the recipe has: without /v1."""
    command = [*VASTGENX, server.url, "--host", "0.0.0.0", "--port", "0"]
    relay = LiveServer(command, tmp_path / "log")
    try:
        chat = open_page(relay.url.replace("0.0.0.0", "127.0.0.1"))
        chat.talk("Hi")
        assert chat.turns() == [("user", "Hi"), ("assistant", "You said: Hi")]
        server.replies.append(Reply(("One ", "two"), holds_after=1))
        chat.ask("Count")
        chat.wait_text("One")
        chat.button("Stop").click()
        until(lambda: server.left_early == 1)
        server.stop()
        chat.talk("Gone?")
        assert "could not be reached" in chat.last.inner_text()
        server.start()
        chat.page.locator("#banner").filter(has_text="can be reached again").wait_for()
        relay.stop()
    finally:
        relay.kill()
    assert "warning: 0.0.0.0 can be reached from outside" in relay.log.read_text()
