"""One question in four ways: the official client, synchronous and not, and replies whole and in a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from live_server import SECONDS, LiveServer
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from requests_to_tiny import for_client


@dataclass(frozen=True)
class Said:
    """A reply; calls are names and arguments. pieces: how many came of each call's arguments, in a stream."""

    text: str
    calls: tuple[tuple[str, str], ...]
    reason: str
    pieces: tuple[int, ...] = field(default=(), compare=False)


def said_in_every_way(server: LiveServer, **fields: Any) -> Said:
    """What is said to `fields` in all ways, at once."""
    known = for_client(fields)
    with ThreadPoolExecutor(4) as pool:
        ways = product((_ask, _ask_async), (False, True))
        said = [pool.submit(ask, f"{server.url}/v1", known, stream) for ask, stream in ways]
    first, *others = [one.result() for one in reversed(said)]
    assert all(other == first for other in others), (first, *others)
    return first


def _ask(url: str, fields: dict[str, Any], stream: bool) -> Said:
    with OpenAI(base_url=url, api_key="none", timeout=2 * SECONDS, max_retries=0) as client:
        reply = client.chat.completions.create(**fields, stream=stream)
        return _whole(reply) if isinstance(reply, ChatCompletion) else _streamed(list(reply))


def _ask_async(url: str, fields: dict[str, Any], stream: bool) -> Said:
    async def ask() -> Said:
        async with AsyncOpenAI(base_url=url, api_key="none", timeout=2 * SECONDS, max_retries=0) as client:
            reply = await client.chat.completions.create(**fields, stream=stream)
            return _whole(reply) if isinstance(reply, ChatCompletion) else _streamed([chunk async for chunk in reply])

    return asyncio.run(ask())


def _whole(reply: ChatCompletion) -> Said:
    (choice,) = reply.choices
    calls = choice.message.tool_calls or []
    assert len({call.id for call in calls}) == len(calls)
    functions = [call.function for call in calls if call.type == "function"]
    return Said(
        choice.message.content or "",
        tuple((function.name, function.arguments) for function in functions),
        choice.finish_reason,
    )


def _streamed(chunks: Sequence[ChatCompletionChunk]) -> Said:
    """Each call's id and name come once, before its arguments, and calls one after the other."""
    choices = [choice for chunk in chunks for choice in chunk.choices]
    (reason,) = (choice.finish_reason for choice in choices if choice.finish_reason)
    names: list[str] = []
    arguments: list[list[str]] = []
    for piece in (piece for choice in choices for piece in choice.delta.tool_calls or ()):
        assert piece.function is not None
        if piece.id is not None:
            assert (piece.index, piece.type) == (len(names), "function")
            names.append(piece.function.name or "")
            arguments.append([])
        else:
            assert piece.function.name is None
        assert piece.index == len(names) - 1
        arguments[-1] += [piece.function.arguments] * bool(piece.function.arguments)
    return Said(
        "".join(choice.delta.content or "" for choice in choices),
        tuple((name, "".join(pieces)) for name, pieces in zip(names, arguments, strict=True)),
        reason,
        tuple(map(len, arguments)),
    )
