"""How much longer running replies wait for a token while a long prompt is read."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.serving.client import Address
from benchmarks.serving.closed_loop import ask, fixed_length, stream
from benchmarks.serving.reply import Reply, percentile_99, waits
from benchmarks.serving.scenario import Scenario
from benchmarks.serving.setup import Bar, Part

RUNNING = 4
SHORT, LONG = 32, 1024
UNDISTURBED = 40  # tokens of each running reply before the long prompt comes
MOST_TOKENS = 1024
BAR = 3.0


async def _disturb(address: Address, prompts: list[list[int]]) -> dict[str, float]:
    """The last prompt comes while the others are answered."""
    *short, long = prompts
    running = [Reply(time.perf_counter(), []) for _ in short]

    async def follow(reply: Reply, prompt: list[int]) -> None:
        async for now, count, _ in stream(address, fixed_length(prompt, MOST_TOKENS)):
            if count:
                reply.arrivals.append((now, count))

    tasks = [asyncio.create_task(follow(*each)) for each in zip(running, short, strict=True)]
    while min(reply.tokens for reply in running) < UNDISTURBED:
        await asyncio.sleep(0.01)
    late, _ = await ask(address, fixed_length(long, 1))
    for task in tasks:
        if task.done():
            raise SystemExit("a reply ended before the long prompt was read")
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    began, read = max(reply.arrivals[0][0] for reply in running), late.arrivals[0][0]
    gaps = [gap for reply in running for gap in reply.gaps]
    before = waits(gap for gap in gaps if began <= gap[0] and gap[1] <= late.asked)
    during = waits(gap for gap in gaps if gap[1] > late.asked and gap[0] < read)
    median, worst = statistics.median(before), percentile_99(during)
    return {
        "itl_median_s": median,
        "itl_p99_during_s": worst,
        "itl_median_during_s": statistics.median(during),
        "long_ttft_s": late.first_after,
        "slowdown": worst / median,
    }


def _prompts(seed: int, vocab: int) -> list[list[int]]:
    rng = np.random.default_rng((seed, LONG))
    return [rng.integers(3, vocab, length).tolist() for length in (*[SHORT] * RUNNING, LONG)]


def _bars(figures: Mapping[str, Any]) -> list[Bar]:
    return [
        Bar(f"P99 ITL while a prompt is read over median ITL: {name}", BAR, each["slowdown"]["median"], least=False)
        for who in figures.values()
        for name, each in who.items()
    ]


PART = Part(Scenario(f"{LONG} tokens among {RUNNING} replies", _prompts, _disturb).cases, _bars)
