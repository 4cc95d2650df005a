"""One request of a soak from beginning to end, and whether its reply was whole and right."""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.serving.client import DONE, Address, Broken, Exchange, head
from benchmarks.serving.question import Question

TIMEOUT_S = 120.0
WINDOW = 4096
PAUSE_S = 0.02

End = Literal["whole", "error", "left", "wrong", "broken", "late"]
"""whole: as it should be; error: a stream that ends with one; left: by the client; wrong: well-formed, but no answer to
the question; broken: not whole, or more than one; late: nothing for too long."""


@dataclass(frozen=True)
class Visit:
    """What became of a request; seconds of the monotonic clock. text: of its choices, or of an error; detail: what is
    wrong with the reply."""

    request_id: str
    question: Question
    began: float
    ended: float
    status: int
    end: End
    text: tuple[str, ...] = ()
    detail: str = ""


class Wrong(Exception):  # noqa: N818 - what it is
    """A reply that does not answer the question."""


async def visit(address: Address, question: Question, request_id: str) -> Visit:
    """Ask as the question says, and read what comes."""
    began = time.monotonic()
    exchange = Exchange(address, WINDOW if question.manner == "slow" else None)
    end: End = "whole"
    text: tuple[str, ...] = ()
    detail = ""
    try:
        async with asyncio.timeout(question.patience if question.manner == "leaving" else TIMEOUT_S):
            async with exchange:
                data = question.body if isinstance(question.body, bytes) else json.dumps(question.body).encode()
                request = head(question.method, question.path, len(data), request_id) + data
                if question.manner == "half":
                    await exchange.send(request[: random.randrange(1, len(request))])
                    end = "left"
                else:
                    await exchange.send(request)
                    await exchange.receive()
                    end, text = await _read(exchange, question)
    except TimeoutError:
        end = "left" if question.manner == "leaving" else "late"
    except (Broken, OSError, ValueError) as error:
        end, detail = "broken", f"{type(error).__name__}: {error}"
    except Wrong as error:
        end, detail = "wrong", str(error)
    return Visit(request_id, question, began, time.monotonic(), exchange.status, end, text, detail)


async def _read(exchange: Exchange, question: Question) -> tuple[End, tuple[str, ...]]:
    if exchange.status != 200:
        reply = json.loads(await exchange.body())
        _require(set(reply["error"]) == {"message", "type", "param", "code"}, f"an error looks like {reply}")
        _require(exchange.status != 429 or "retry-after" in exchange.headers, "429 does not say when to come again")
        return "whole", (reply["error"]["message"],)
    if not exchange.headers["content-type"].startswith("text/event-stream"):
        if question.manner == "slow":
            await asyncio.sleep(PAUSE_S)
        return "whole", _check_whole(json.loads(await exchange.body()), question)
    chunks: list[dict[str, Any]] = []
    done = False
    async for event in exchange.events():
        _require(not done, "something follows the end of the stream")
        if question.manner == "slow":
            await asyncio.sleep(PAUSE_S)
        done = event == DONE
        if not done:
            chunks.append(json.loads(event))
    if chunks and "error" in chunks[-1]:
        _require(not done, "a stream ends with an error and its end")
        return "error", (chunks[-1]["error"]["message"],)
    _require(done, "a stream has no end")
    return "whole", _check_stream(chunks, question)


def _check_whole(reply: dict[str, Any], question: Question) -> tuple[str, ...]:
    choices = sorted(reply["choices"], key=lambda choice: choice["index"])
    _check_ends({choice["index"]: [choice["finish_reason"]] for choice in choices}, question)
    _check_usage(reply["usage"], question)
    return tuple(_words(choice, "message") for choice in choices)


def _check_stream(chunks: list[dict[str, Any]], question: Question) -> tuple[str, ...]:
    _require(len({chunk["id"] for chunk in chunks}) == 1, "chunks have several ids")
    texts: dict[int, str] = {}
    ends: dict[int, list[str]] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        index = choice["index"]
        _require(not ends.get(index), f"choice {index} goes on after its end")
        texts[index] = texts.get(index, "") + _words(choice, "delta")
        if choice["finish_reason"] is not None:
            ends.setdefault(index, []).append(choice["finish_reason"])
    _check_ends(ends, question)
    _check_usage(chunks[-1]["usage"], question)
    return tuple(texts[index] for index in sorted(texts))


def _words(choice: dict[str, Any], field: str) -> str:
    return choice["text"] if "text" in choice else choice[field].get("content") or ""


def _check_ends(ends: dict[int, list[str]], question: Question) -> None:
    _require(
        sorted(ends) == [*range(question.replies)], f"{question.replies} replies were asked for, {sorted(ends)} came"
    )
    for index, reasons in ends.items():
        fine = len(reasons) == 1 and reasons[0] in ("stop", "length", "tool_calls")
        _require(fine, f"choice {index} ended with {reasons}")


def _check_usage(usage: dict[str, Any], question: Question) -> None:
    body = question.body
    assert isinstance(body, dict)
    most = body["max_tokens"] * question.replies
    _require(usage["completion_tokens"] <= most, f"{usage} where {most} tokens were asked for")
    if isinstance(body.get("prompt"), list):
        exact = usage["prompt_tokens"] == len(body["prompt"]) and usage["completion_tokens"] == most
        _require(exact, f"{usage} for a prompt of {len(body['prompt'])} tokens and {most} more")


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise Wrong(sentence)
