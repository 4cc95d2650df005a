"""What the prefix cache saves: two prompts that begin with the same tokens, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.serving.client import Address
from benchmarks.serving.closed_loop import ask, fixed_length
from benchmarks.serving.scenario import Scenario
from benchmarks.serving.setup import Bar, Part

SHARED, OWN = 1000, 24
BAR = 0.15


async def _twice(address: Address, prompts: list[list[int]]) -> dict[str, float]:
    first, second = [(await ask(address, fixed_length(prompt, 1)))[0].first_after for prompt in prompts]
    return {"first_ttft_s": first, "second_ttft_s": second, "share": second / first}


def _prompts(seed: int, vocab: int) -> list[list[int]]:
    rng = np.random.default_rng((seed, SHARED))
    shared, *ends = [rng.integers(3, vocab, length).tolist() for length in (SHARED, OWN, OWN)]
    return [shared + end for end in ends]


def _bars(figures: Mapping[str, Any]) -> list[Bar]:
    return [
        Bar(f"second TTFT over first: {name}", BAR, each["share"]["median"], least=False)
        for who in figures.values()
        for name, each in who.items()
    ]


PART = Part(Scenario(f"{SHARED} tokens shared", _prompts, _twice).cases, _bars)
