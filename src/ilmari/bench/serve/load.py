"""Prompts asked by clients that wait for their replies, or at times that do not depend on the server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


async def closed_loop(
    ask: Callable[[Asked], Awaitable[Answer]], prompts: Sequence[Asked], clients: int
) -> list[Answer]:
    """So many clients, each of which asks again as soon as it has its reply; the replies in the order of their ends."""
    waiting = iter(prompts)
    answers = []

    async def client() -> None:
        for prompt in waiting:
            answers.append(await ask(prompt))

    await asyncio.gather(*(client() for _ in range(min(clients, len(prompts)))))
    return answers


async def open_loop(
    ask: Callable[[Asked], Awaitable[Answer]], prompts: Sequence[Asked], times: Sequence[float]
) -> list[Answer]:
    """Each prompt at its time, in seconds from now, however many are being answered; the replies in order."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def at(time: float, prompt: Asked) -> Answer:
        await asyncio.sleep(began + time - loop.time())
        return await ask(prompt)

    return list(await asyncio.gather(*map(at, times, prompts)))


def poisson_times(rate: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """When `count` independent visitors come, `rate` a second on average: the first at 0, the gaps exponential."""
    gaps = rng.exponential(1 / rate, count)
    return np.cumsum(gaps) - gaps[:1]
