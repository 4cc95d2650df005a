"""A closed loop of clients over HTTP: each asks again as soon as it has its reply."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from typing import Any

from benchmarks.serving.client import DONE, Address, Exchange
from benchmarks.serving.reply import Reply
from benchmarks.serving.traffic import Traffic
from ilmari.bench.serve import load

COMPLETIONS = "/v1/completions"


async def stream(address: Address, body: dict[str, Any]) -> AsyncGenerator[tuple[float, int, str]]:
    """A streamed completion: when something came, how many tokens it was, and their text.

    A chunk is a token for servers that do not say how many there are so far; what they hold back, half a character or
    the like, counts with the last chunk.
    """
    usage = {"include_usage": True, "continuous_usage_stats": True}
    known = 0
    async with Exchange(address) as exchange:
        await exchange.post(COMPLETIONS, body | {"stream": True, "stream_options": usage})
        if exchange.status != 200:
            raise SystemExit(f"a completion was answered with {exchange.status}: {(await exchange.body()).decode()}")
        async for event in exchange.events():
            now = time.perf_counter()
            if event == DONE:
                continue
            chunk = json.loads(event)
            if "error" in chunk:
                raise SystemExit(f"a completion ended with an error: {chunk['error']}")
            counted = chunk.get("usage")
            count = counted["completion_tokens"] - known if counted else len(chunk["choices"])
            known += count
            yield now, count, "".join(choice["text"] for choice in chunk["choices"])


async def ask(address: Address, body: dict[str, Any]) -> tuple[Reply, str]:
    """One streamed completion: when its tokens came, and its text."""
    asked = time.perf_counter()
    pieces = [piece async for piece in stream(address, body)]
    return Reply(asked, [(now, count) for now, count, _ in pieces if count]), "".join(text for *_, text in pieces)


def fixed_length(prompt: list[int], new_tokens: int) -> dict[str, Any]:
    """Exactly so many tokens, each the most probable one."""
    return {"prompt": prompt, "max_tokens": new_tokens, "temperature": 0, "ignore_eos": True}


async def closed_loop(address: Address, traffic: Traffic, vocab_size: int) -> list[Reply]:
    """All replies; each has the tokens that were asked for."""

    async def reply_to(prompt: list[int]) -> Reply:
        reply, _ = await ask(address, fixed_length(prompt, traffic.new_tokens))
        assert reply.tokens == traffic.new_tokens
        return reply

    return await load.closed_loop(reply_to, traffic.prompts(vocab_size), traffic.concurrency)
