"""What the prefix cache saves: two prompts that begin with the same tokens, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.client import Address
from benchmarks.serving.closed_loop import ask, fixed_length
from benchmarks.serving.processes import awake, pause
from benchmarks.serving.rounds import Cases, Measure
from benchmarks.serving.servers import Server
from benchmarks.serving.setup import NO_DRAFTS, Bar, Part, Setup, vocab_size

SHARED, OWN = 1000, 24
BAR = 0.15


async def _twice(address: Address, prompts: list[list[int]]) -> dict[str, float]:
    first, second = [(await ask(address, fixed_length(prompt, 1)))[0].first_after for prompt in prompts]
    return {"first_ttft_s": first, "second_ttft_s": second, "share": second / first}


def _measure(server: Server, artifact: Path) -> Measure:
    vocab = vocab_size(artifact)
    pause(server.pid)

    def measure(seed: int) -> dict[str, float]:
        rng = np.random.default_rng((seed, SHARED))
        shared, *ends = [rng.integers(3, vocab, length).tolist() for length in (SHARED, OWN, OWN)]
        with awake(server.pid):
            return asyncio.run(_twice(server.address, [shared + end for end in ends]))

    return measure


def _cases(setup: Setup) -> Cases:
    artifacts = {f"ilmari {scheme}": setup.artifact(scheme) for scheme in setup.schemes}
    return {
        f"{SHARED} tokens shared": {
            name: _measure(setup.serve(artifact, *NO_DRAFTS), artifact) for name, artifact in artifacts.items()
        }
    }


def _bars(figures: Mapping[str, Any]) -> list[Bar]:
    return [
        Bar(f"second TTFT over first: {name}", BAR, each["share"]["median"], least=False)
        for who in figures.values()
        for name, each in who.items()
    ]


PART = Part(_cases, _bars)
