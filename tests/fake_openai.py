"""A server that speaks OpenAI's API as slowly and as badly as it is told, and notes when it really wrote what."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

OPTIONAL = frozenset({"ignore_eos", "stream_options", "continuous_usage_stats"})
TEMPLATE = 7
"""Tokens of a conversation beside its words."""


@dataclass
class Record:
    """A request that was answered with a stream: when it was there, and when how many tokens were written."""

    path: str
    body: dict[str, Any]
    arrived: float
    writes: list[tuple[float, int]] = field(default_factory=list)


@dataclass
class FakeOpenAI:
    """A context in which the server runs, in a thread of its own.

    ttft_s, gap_s: between which seconds a first token takes, and each further event. tokens_per_word: of prompts.
    faults: what goes wrong with which request, of those with more than one token: a status, `drop` in the middle, an
    `error` in the stream, or `never` an end.
    """

    ttft_s: tuple[float, float] = (0.0, 0.0)
    gap_s: tuple[float, float] = (0.0, 0.0)
    tokens_per_event: int = 1
    knows: frozenset[str] = OPTIONAL
    counts: bool = True
    models: tuple[str, ...] = ("fake",)
    max_model_len: int | None = None
    api_key: str | None = None
    faults: dict[int, int | str] = field(default_factory=dict)
    keep_alive: bool = True
    certificate: ssl.SSLContext | None = None
    tokens_per_word: int = 1
    records: list[Record] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> FakeOpenAI:
        self._rng = random.Random(0)
        self._loop = asyncio.new_event_loop()
        self._never = asyncio.Event()
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self.certificate)
        )
        scheme = "https" if self.certificate else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def measured(self) -> list[Record]:
        """Without the first questions, for which one token is enough."""
        return [record for record in self.records if record.body["max_tokens"] > 1]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._answer(reader, writer) and self.keep_alive:
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        data = await reader.readexactly(int(headers.get("content-length", "0")))
        arrived = time.perf_counter()
        path = head[0].split()[1]
        if self.api_key and headers.get("authorization") != f"Bearer {self.api_key}":
            return self._whole(writer, 401, {"error": {"message": "Another key, please."}})
        if path == "/v1/models":
            cards = [{"id": name} | self._length for name in self.models]
            return self._whole(writer, 200, {"object": "list", "data": cards})
        body = json.loads(data or b"{}")
        if path not in ("/v1/chat/completions", "/v1/completions"):
            return self._whole(writer, 404, {"error": {"message": "There is nothing here."}})
        for name in sorted(OPTIONAL - self.knows):
            if name in body or name in body.get("stream_options", {}):
                return self._whole(writer, 400, {"error": {"message": f"Unknown field: {name}."}})
        record = Record(path, body, arrived)
        self.records.append(record)
        fault = self.faults.get(len(self.measured) - 1) if body["max_tokens"] > 1 else None
        if isinstance(fault, int):
            return self._whole(writer, fault, {"error": {"message": "Not now."}})
        return await self._stream(writer, record, fault)

    @property
    def _length(self) -> dict[str, int]:
        return {} if self.max_model_len is None else {"max_model_len": self.max_model_len}

    def _whole(self, writer: asyncio.StreamWriter, status: int, body: dict[str, Any]) -> bool:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        return True

    async def _stream(self, writer: asyncio.StreamWriter, record: Record, fault: str | None) -> bool:
        body, tokens = record.body, record.body["max_tokens"]
        options = body.get("stream_options") or {}
        running = self.counts and options.get("continuous_usage_stats", False)
        close = "" if self.keep_alive else "connection: close\r\n"
        framing = "transfer-encoding: chunked\r\n" if self.keep_alive else ""
        writer.write(f"HTTP/1.1 200 OK\r\n{close}{framing}content-type: text/event-stream\r\n\r\n".encode())

        def send(event: str) -> None:
            data = f"data: {event}\n\n".encode()
            writer.write(b"%x\r\n%b\r\n" % (len(data), data) if self.keep_alive else data)

        def chunk(done: int, **choice: Any) -> str:
            usage = {"usage": self._usage(body, done)} if running else {}
            return json.dumps({"choices": [{"index": 0, "finish_reason": None} | choice]} | usage)

        if "messages" in body:
            send(chunk(0, delta={"role": "assistant", "content": ""}))
        when = time.perf_counter() + self._rng.uniform(*self.ttft_s)
        done = 0
        while done < tokens:
            await asyncio.sleep(when - time.perf_counter())
            if fault == "never":
                await self._never.wait()
            if fault and done >= tokens // 2:
                if fault == "drop":
                    return False
                send(json.dumps({"error": {"message": "The engine died."}}))
                break
            count = min(self.tokens_per_event, tokens - done)
            done += count
            text = "hm " * count
            record.writes.append((time.perf_counter(), count))
            send(chunk(done, **({"delta": {"content": text}} if "messages" in body else {"text": text})))
            when += self._rng.uniform(*self.gap_s)
        else:
            last: dict[str, Any] = {"delta": {}} if "messages" in body else {"text": ""}
            send(chunk(done, finish_reason="length", **last))
            if self.counts and options.get("include_usage"):
                send(json.dumps({"choices": [], "usage": self._usage(body, done)}))
            send("[DONE]")
        if self.keep_alive:
            writer.write(b"0\r\n\r\n")
        else:
            writer.close()
            await writer.wait_closed()
        return True

    def _usage(self, body: dict[str, Any], done: int) -> dict[str, int]:
        return {"prompt_tokens": self.prompt_tokens(body), "completion_tokens": done}

    def prompt_tokens(self, body: dict[str, Any]) -> int:
        """How many the server counts in a request."""
        if "prompt" in body:
            return self.tokens_per_word * len(body["prompt"].split())
        words = sum(len(message["content"].split()) for message in body["messages"])
        return TEMPLATE + self.tokens_per_word * words
