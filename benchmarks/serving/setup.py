"""What the parts of the benchmark need: folders, threads, and everything that is started and must be ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers import setup_ilmari
from benchmarks.serving.rounds import Cases
from benchmarks.serving.servers import Server, ilmari_server

NO_DRAFTS = ("--num-speculative-tokens", "0")


@dataclass(frozen=True)
class Bar:
    """A figure that must be reached; `least`: it must not be below, else not above."""

    what: str
    bar: float
    measured: float
    least: bool

    @property
    def met(self) -> bool:
        return self.measured >= self.bar if self.least else self.measured <= self.bar


@dataclass(frozen=True)
class Setup:
    """artifacts: of the 1.8B shape, by scheme, with `-b2s` behind it for throughput; others are compiled in the cache.

    flags: more of `ilmari serve`'s. Servers and workers that the parts start end with the stack.
    """

    cache: Path
    artifacts: Mapping[str, Path]
    schemes: Sequence[str]
    threads: int
    flags: Sequence[str] = ()
    stack: ExitStack = field(default_factory=ExitStack)
    versions: dict[str, str] = field(default_factory=dict)

    def artifact(self, scheme: str, throughput: bool = False) -> Path:
        """One of them; throughput: served for that, at the cost of replies that wait while prompts are read."""
        name = f"{scheme}-b2s" if throughput else scheme
        return self.artifacts.get(name) or setup_ilmari.artifact(self.cache, name)

    def serve(self, artifact: Path, *flags: str) -> Server:
        """`ilmari serve` until the part ends."""
        return self.started(ilmari_server(artifact, [*flags, *self.flags], self.threads))

    def started(self, closable: Any) -> Any:
        """The same, closed when the part ends."""
        return self.stack.enter_context(closing(closable))


@dataclass(frozen=True)
class Part:
    """cases: starts what is to be measured; bars: what figures must reach, as `rounds.summary` gives them."""

    cases: Callable[[Setup], Cases]
    bars: Callable[[Mapping[str, Any]], list[Bar]]


def vocab_size(artifact: Path) -> int:
    """Of an artifact's model."""
    return int(json.loads((artifact / "manifest.json").read_text())["model"]["vocab_size"])
