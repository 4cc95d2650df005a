"""Prompts that ilmari's server is asked in a certain way, one server for each scheme."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.client import Address
from benchmarks.serving.processes import awake, pause
from benchmarks.serving.rounds import Cases, Measure
from benchmarks.serving.servers import Server
from benchmarks.serving.setup import NO_DRAFTS, Setup, vocab_size


@dataclass(frozen=True)
class Scenario:
    """prompts: random ones, from a round's seed and the size of the vocabulary; act: asks them and says what it saw."""

    name: str
    prompts: Callable[[int, int], list[list[int]]]
    act: Callable[[Address, list[list[int]]], Coroutine[Any, Any, dict[str, float]]]

    def cases(self, setup: Setup) -> Cases:
        """The scenario with each scheme."""
        artifacts = {f"ilmari {scheme}": setup.artifact(scheme) for scheme in setup.schemes}
        return {
            self.name: {
                name: self._measure(setup.serve(artifact, *NO_DRAFTS), artifact) for name, artifact in artifacts.items()
            }
        }

    def _measure(self, server: Server, artifact: Path) -> Measure:
        vocab = vocab_size(artifact)
        pause(server.pid)

        def measure(seed: int) -> dict[str, float]:
            prompts = self.prompts(seed, vocab)
            with awake(server.pid):
                return asyncio.run(self.act(server.address, prompts))

        return measure
