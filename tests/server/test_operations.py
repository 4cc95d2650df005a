"""What keeps a server up: keys, bounds, queues, deadlines, clients that leave, engines that die."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from typing import Any

import pytest
from fake_engine import FakeEngine, MakeApp
from fastapi import FastAPI
from starlette.testclient import TestClient

from ilmari.server.metrics import ENGINE_METRICS

BODY = {"prompt": "Say it", "max_tokens": 64}
URL = "/v1/completions"
JSON = {"content-type": "application/json"}


class Call:
    """One request given to an application by hand, whose client may leave at any time."""

    def __init__(self, app: FastAPI, body: Any, *, path: str = URL, headers: dict[str, str] | None = None) -> None:
        self.sent: list[Any] = []
        self._messages: asyncio.Queue[Any] = asyncio.Queue()
        self._messages.put_nowait({"type": "http.request", "body": json.dumps(body).encode()})
        fields = JSON | (headers or {})
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
            "state": {},
        }
        self.task = asyncio.ensure_future(app(scope, self._messages.get, self._send))

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    def leave(self) -> None:
        self._messages.put_nowait({"type": "http.disconnect"})

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def test_keys(make_app: MakeApp, engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    client = TestClient(make_app(api_keys=("one", "two")))
    for path in ("/v1/models", "/metrics", "/version", "/openapi.json", "/nothing"):
        for headers in ({}, {"authorization": "Bearer on"}, {"authorization": "one"}, {"authorization": "Bearer ö"}):
            response = client.get(path, headers={name: value.encode() for name, value in headers.items()})
            assert response.status_code == 401
            assert response.json()["error"]["code"] == "invalid_api_key"
    assert client.get("/health").status_code == client.get("/ready").status_code == 200
    for key in ("one", "two"):
        client.post(URL, json=BODY | {"cache_salt": "s"}, headers={"authorization": f"Bearer {key}"}).raise_for_status()
    assert [salt for _, _, salt in engine.asked.values()] == ["0:s", "1:s"]
    log = capsys.readouterr().err
    assert '"api_key": 1' in log
    assert "two" not in log


def test_queue_is_bounded(make_app: MakeApp, engine: FakeEngine) -> None:
    async def main() -> None:
        app = make_app(most_replies=2)
        engine.gate.clear()
        first, second = Call(app, BODY), Call(app, BODY)
        await until(lambda: len(engine.running) == 2)
        third = Call(app, BODY)
        await third.task
        assert third.status == 429
        assert dict(third.sent[0]["headers"])[b"retry-after"] == b"1"
        engine.gate.set()
        await asyncio.gather(first.task, second.task)
        assert first.status == second.status == 200
        fourth = Call(app, BODY)
        await fourth.task
        assert fourth.status == 200

    asyncio.run(main())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_leaving_ends_the_request(make_app: MakeApp, engine: FakeEngine, stream: bool, begun: bool) -> None:
    async def main() -> None:
        app = make_app()
        if not begun:
            engine.gate.clear()
        call = Call(app, BODY | {"stream": stream, "ignore_eos": True, "max_tokens": 200, "n": 3})
        await until(lambda: len(engine.running) == 3 and (not begun or not stream or len(call.sent) > 2))
        call.leave()
        await call.task
        assert not engine.running
        assert len(engine.ended_early) == 3
        engine.gate.set()
        again = Call(app, BODY)
        await again.task
        assert again.status == 200

    asyncio.run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_deadline(make_app: MakeApp, engine: FakeEngine, stream: bool) -> None:
    async def main() -> None:
        engine.gate.clear()
        call = Call(make_app(request_timeout=0.05), BODY | {"stream": stream})
        await call.task
        assert call.status == 408
        assert json.loads(call.body)["error"]["code"] == "timeout"
        assert not engine.running

    asyncio.run(main())


def test_deadline_within_a_stream_is_an_event(make_app: MakeApp, engine: FakeEngine) -> None:
    async def main() -> None:
        engine.waits_after = 3
        call = Call(make_app(request_timeout=0.5), BODY | {"stream": True})
        await call.task
        assert call.status == 200
        last = call.body.decode().rstrip().rpartition("\n\n")[2]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "timeout"

    asyncio.run(main())


def test_cancelled_by_the_server(make_app: MakeApp, engine: FakeEngine) -> None:
    async def main() -> None:
        engine.gate.clear()
        call = Call(make_app(), BODY)
        await until(lambda: engine.running)
        call.task.cancel()
        await call.task
        assert call.status == 503
        assert not engine.running

    asyncio.run(main())


def test_a_prompt_that_is_not_read_in_time(
    client: TestClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    ended = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr("ilmari.server.prompts.PROMPT_TIMEOUT_S", 0.05)
        patch.setattr(engine.chat_template, "render", lambda *_, **__: "late" * ended.wait())
        for body, path in [(chat, "/v1/chat/completions"), (chat, "/v1/chat/completions"), (BODY, URL)]:
            response = client.post(path, json=body)
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")
            assert "not read within 0.05 s" in response.json()["error"]["message"]
        assert client.get("/health").status_code == 200
        assert not engine.asked
        ended.set()
    assert client.post("/v1/chat/completions", json=chat).status_code == 200


def test_draining(make_app: MakeApp, engine: FakeEngine) -> None:
    app = make_app()
    client = TestClient(app)
    app.state.service.admission.draining = True
    assert client.get("/ready").status_code == 503
    assert client.get("/health").status_code == 200
    response = client.post(URL, json=BODY)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert not engine.asked


def test_engine_that_is_dead(client: TestClient, engine: FakeEngine) -> None:
    engine.state = "dead"
    for path in ("/health", "/ready"):
        response = client.get(path)
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "engine_dead"
    response = client.post(URL, json=BODY)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    engine.state = "ready"
    assert client.post(URL, json=BODY).status_code == 200


@pytest.mark.parametrize("n", [1, 3])
def test_engine_that_dies(client: TestClient, engine: FakeEngine, n: int) -> None:
    engine.dies_after = 2
    assert client.post(URL, json=BODY | {"n": n}).status_code == 503
    engine.state = "ready"
    events = client.post(URL, json=BODY | {"stream": True, "n": n}).text.rstrip().split("\n\n")
    assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "engine_dead"
    assert not engine.running


def test_engine_that_refuses(client: TestClient, engine: FakeEngine) -> None:
    engine.error = "No."
    for stream in (False, True):
        response = client.post(URL, json=BODY | {"stream": stream})
        assert (response.status_code, response.json()["error"]["message"]) == (400, "No.")


def test_our_own_mistakes(client: TestClient, engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.reply = 3  # type: ignore[assignment]
    response = client.post(URL, json=BODY)
    assert (response.status_code, response.json()["error"]["type"]) == (500, "server_error")
    assert "TypeError" not in response.text
    assert '"status": 500' in capsys.readouterr().err


def test_body_is_bounded(client: TestClient) -> None:
    response = client.post(URL, content=b'{"prompt": "' + b"a" * (4 << 20) + b'"}')
    assert response.status_code == 413
    assert response.json()["error"]["type"] == "request_too_large_error"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"1", b"\xff", b"[" * 100_000, b'{"prompt": ' + b"9" * 5000 + b"}", b'{"a":' * 50_000],
    ids=lambda content: str(content[:12]),
)
def test_no_json(client: TestClient, content: bytes) -> None:
    response = client.post(URL, content=content, headers=JSON)
    assert response.status_code == 400
    assert response.json()["error"]["message"]


def test_routes_that_are_not_there(client: TestClient) -> None:
    assert client.get("/v1/nothing").json()["error"]["type"] == "not_found_error"
    response = client.get(URL)
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert response.json()["error"]["type"] == "method_not_allowed_error"
    assert client.get("/docs").status_code == 404
    other = json.dumps(BODY | {"model": "other"})
    assert client.post(URL, content=other, headers=JSON).json()["error"]["code"] == "model_not_found"


def test_models(client: TestClient) -> None:
    (card,) = client.get("/v1/models").json()["data"]
    assert card["id"] == "tiny"
    assert card["max_model_len"] == 256
    assert client.get("/v1/models/tiny").json() == card
    assert client.get("/v1/models/other").status_code == 404


def test_tokens(client: TestClient) -> None:
    answer = client.post("/tokenize", json={"prompt": "Hé", "return_token_strs": True}).json()
    assert answer["count"] == len(answer["tokens"]) == 4
    assert answer["token_strs"] == ["<s>", "H", "bytes:\\xc3", "bytes:\\xa9"]
    assert client.post("/detokenize", json={"tokens": answer["tokens"]}).json() == {"prompt": "<s>Hé"}
    chat = client.post("/tokenize", json={"messages": [{"role": "user", "content": "hi"}]}).json()
    assert chat["token_strs"] is None
    assert chat["count"] == 22
    assert client.post("/detokenize", json={"tokens": [320]}).status_code == 400
    assert client.post("/tokenize", json={"prompt": "x", "what": 1}).status_code == 400


def test_metrics(client: TestClient) -> None:
    client.post(URL, json=BODY).raise_for_status()
    text = client.get("/metrics").text
    for name in ENGINE_METRICS:
        assert re.search(rf'^{name}(_total)?{{model_name="tiny"}} ', text, re.MULTILINE), name
    assert 'ilmari:kv_cache_usage_perc{model_name="tiny"} 0.5' in text
    assert 'ilmari:generation_tokens_total{model_name="tiny"} 15.0' in text
    assert 'ilmari:request_success_total{finished_reason="stop",model_name="tiny"} 1.0' in text
    assert 'ilmari:time_to_first_token_seconds_count{model_name="tiny"} 1.0' in text
    assert 'ilmari:inter_token_latency_seconds_count{model_name="tiny"} 14.0' in text
    assert 'ilmari:http_responses_total{status="200"} 1.0' in text


def test_access_log(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.post(URL, json=BODY | {"user": "me"}, headers={"x-request-id": "mine-1"})
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry["request_id"] == "mine-1"
    assert entry["status"] == 200
    assert (entry["model"], entry["user"], entry["completion_tokens"]) == ("tiny", "me", 15)
    assert "Say it" not in line


@pytest.mark.parametrize("sent", ["mine", "x" * 300, "a\tb", ""])
def test_request_ids(make_app: MakeApp, sent: str) -> None:
    client = TestClient(make_app(enable_request_id_headers=True))
    answered = client.get("/version", headers={"x-request-id": sent}).headers["x-request-id"]
    assert answered == sent if sent == "mine" else re.fullmatch("[0-9a-f]{32}", answered)
    assert "x-request-id" not in TestClient(make_app()).get("/version").headers


def test_cors(make_app: MakeApp) -> None:
    client = TestClient(make_app(allowed_origins=("https://a.example",), api_keys=("k",)))
    asks = {"origin": "https://a.example", "access-control-request-method": "POST"}
    assert client.options(URL, headers=asks).headers["access-control-allow-origin"] == "https://a.example"
    assert client.options(URL, headers=asks | {"origin": "https://b.example"}).status_code == 400
    assert "access-control-allow-origin" in client.get("/v1/models", headers={"origin": "https://a.example"}).headers


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_root_path(make_app: MakeApp, prefix: str) -> None:
    client = TestClient(make_app(root_path="/api", api_keys=("k",)))
    assert client.get(f"{prefix}/health").status_code == 200
    assert client.get(f"{prefix}/v1/models").status_code == 401
    assert client.get(f"{prefix}/v1/models", headers={"authorization": "Bearer k"}).status_code == 200


def test_openapi_says_what_happens(make_app: MakeApp) -> None:
    schema = make_app(api_keys=("k",)).openapi()
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert "422" not in operation["responses"]
            assert ("security" in operation) == (path not in ("/health", "/ready"))
    generation = schema["paths"][URL]["post"]["responses"]
    assert set(generation) == {"200", "400", "401", "404", "408", "413", "429", "500", "503"}
    assert set(generation["200"]["content"]) == {"application/json", "text/event-stream"}
    assert "$ref" in generation["400"]["content"]["application/json"]["schema"]
