"""A server of OpenAI's API that says what a test tells it to, with the page's files in front of it, in a thread."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ilmari.webui.page import page_routes

SECONDS = 60.0


@dataclass(frozen=True)
class Reply:
    """What is said to one request.

    pause: seconds before each piece. holds_after, cut_after, error_after: pieces until the reply waits for `gate`, the
    connection is closed, or an error takes the place of the rest. refusal: status and body in place of a reply.
    call_deltas: what is said of calls, as it stands.
    """

    pieces: tuple[str, ...] = ()
    pause: float = 0.0
    holds_after: int | None = None
    cut_after: int | None = None
    error_after: int | None = None
    refusal: tuple[int, bytes] | None = None
    calls: tuple[tuple[str, str], ...] = ()
    call_deltas: tuple[dict[str, Any], ...] = ()
    reasoning: str = ""
    finish: str = "stop"


def refusal(status: int, message: str) -> Reply:
    """An error in OpenAI's form."""
    return Reply(refusal=(status, json.dumps({"error": {"message": message}}).encode()))


@dataclass
class ScriptedServer:
    """Says `replies` in turn, and then what it was told last; what it was asked is in `requests`."""

    models: tuple[str, ...] = ("tiny", "other")
    no_models: Response | None = None
    key: str | None = None
    usage: bool = True
    streams: bool = True
    replies: deque[Reply] = field(default_factory=deque)
    requests: list[dict[str, Any]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    left_early: int = 0
    _port: int = 0

    def __post_init__(self) -> None:
        self.start()

    @property
    def url(self) -> str:
        """Where it is, started or not."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, at the port of the last time."""
        listener = socket.create_server(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        routes = [
            *page_routes(),
            Route("/v1/models", self._models),
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=0
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self._thread.start()

    def stop(self) -> None:
        """Go away, in the middle of whatever is said."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    def _refused(self, request: Request) -> bool:
        return self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}"

    async def _models(self, request: Request) -> Response:
        if self._refused(request):
            return JSONResponse({"error": {"message": "The API key is wrong."}}, 401)
        if self.no_models is not None:
            return self.no_models
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        if self._refused(request):
            return JSONResponse({"error": {"message": "The API key is wrong."}}, 401)
        if not self.usage and "stream_options" in body:
            return JSONResponse({"error": {"message": "stream_options is unknown."}}, 400)
        told = body["messages"][-1]["content"]
        reply = self.replies.popleft() if self.replies else Reply((f"You said: {told}",))
        if reply.refusal is not None:
            return Response(reply.refusal[1], reply.refusal[0])
        if not self.streams:
            message = {"role": "assistant", "content": "".join(reply.pieces)}
            return JSONResponse({"choices": [{"message": message, "finish_reason": reply.finish}]})
        return StreamingResponse(self._events(reply), media_type="text/event-stream")

    async def _events(self, reply: Reply) -> AsyncIterator[bytes]:
        whole = False
        try:
            if reply.reasoning:
                yield _chunk({"reasoning_content": reply.reasoning})
            for count, piece in enumerate(reply.pieces):
                while count == reply.holds_after and not self.gate.is_set():
                    await asyncio.sleep(0.01)
                await asyncio.sleep(reply.pause)
                if count == reply.cut_after:
                    raise ConnectionError
                if count == reply.error_after:
                    yield _event({"error": {"message": "The engine has stopped."}})
                    whole = True
                    return
                yield _chunk({"content": piece})
            for index, (name, arguments) in enumerate(reply.calls):
                half = len(arguments) // 2
                yield _chunk({"tool_calls": [_call(index, arguments[:half], id=f"call-{index}", name=name)]})
                yield _chunk({"tool_calls": [_call(index, arguments[half:])]})
            for delta in reply.call_deltas:
                yield _chunk({"tool_calls": [delta]})
            yield _chunk({}, "tool_calls" if reply.calls else reply.finish)
            if self.usage:
                yield _event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 42}})
            yield b"data: [DONE]\n\n"
            whole = True
        finally:
            self.left_early += not whole


def _call(index: int, arguments: str, id: str | None = None, name: str | None = None) -> dict[str, Any]:
    begun = {} if id is None else {"id": id, "type": "function"}
    return {"index": index, **begun, "function": {**({} if name is None else {"name": name}), "arguments": arguments}}


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return _event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()
