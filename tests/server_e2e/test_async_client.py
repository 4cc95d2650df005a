"""The official asynchronous client: many replies at once, each the same as alone, and none left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from live_server import SECONDS, LiveServer
from openai import AsyncOpenAI, OpenAI
from requests_to_tiny import HELLO, body, chat, complete, for_client

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns, if it does so in time."""
    return asyncio.run(asyncio.wait_for(work, 2 * SECONDS))


def async_client(server: LiveServer) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=SECONDS, max_retries=0)


async def streamed(client: AsyncOpenAI, **more: Any) -> str:
    """A chat reply that comes in chunks."""
    text = ""
    stream = await client.chat.completions.create(**for_client(body(**{"messages": HELLO, "stream": True} | more)))
    async with stream:
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    return text


async def whole(client: AsyncOpenAI, **more: Any) -> str:
    """A chat reply at once."""
    reply = await client.chat.completions.create(**for_client(body(**{"messages": HELLO} | more)))
    return reply.choices[0].message.content or ""


def test_whole_and_stream(server: LiveServer, client: OpenAI) -> None:
    async def ask() -> tuple[str, str]:
        async with async_client(server) as ours:
            return await whole(ours), await streamed(ours)

    expected = chat(client).choices[0].message.content
    assert run(ask()) == (expected, expected)


@pytest.mark.parametrize("temperature", [0, 1])
def test_same_seed_same_text_at_any_batch_size(server: LiveServer, client: OpenAI, temperature: float) -> None:
    """Prompts of all lengths begin and end beside it, more than run at once."""
    asked = {seed: {"temperature": temperature, "seed": seed, "max_tokens": 20 + 7 * (seed % 5)} for seed in range(8)}
    alone = {seed: chat(client, **fields).choices[0].message.content for seed, fields in asked.items()}

    async def together() -> dict[int, str]:
        async with async_client(server) as ours:
            others = [
                ours.completions.create(**for_client(body(prompt=[5 + k] * (1 + 37 * k), max_tokens=9 + k, seed=k)))
                for k in range(16)
            ]
            noise = asyncio.gather(*others)
            ways = (whole, streamed)
            texts = await asyncio.gather(*(ways[seed % 2](ours, **fields) for seed, fields in asked.items()))
            await noise
            return dict(zip(asked, texts, strict=True))

    assert run(together()) == alone
    server.wait_idle()


def test_completions_stream(server: LiveServer, client: OpenAI) -> None:
    async def ask() -> str:
        async with async_client(server) as ours:
            stream = await ours.completions.create(**for_client(body(prompt="abc", stream=True)))
            async with stream:
                return "".join([chunk.choices[0].text async for chunk in stream])

    assert run(ask()) == complete(client, "abc").choices[0].text


def test_a_task_that_is_cancelled_ends_its_reply(server: LiveServer) -> None:
    async def ask() -> None:
        async with async_client(server) as ours:
            task = asyncio.create_task(whole(ours, max_tokens=8000))
            while server.load[0] == 0:
                await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(ask())
    server.wait_idle()
