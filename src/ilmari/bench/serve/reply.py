"""A reply as its reader saw it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field


@dataclass
class Reply:
    """When it was asked for, and when how many of its tokens came: seconds of one clock.

    status: of HTTP; 0 if none came. input_tokens, output_tokens: as the server counts them, if it does. error: what
    went wrong, if anything did; such a reply has no figures.
    """

    asked: float
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    input_tokens: int | None = None
    output_tokens: int | None = None
    status: int = 0
    error: str | None = None

    @property
    def tokens(self) -> int:
        """Of its output: as the server counts them, else those that arrived."""
        arrived = sum(count for _, count in self.arrivals)
        return arrived if self.output_tokens is None else self.output_tokens

    @property
    def ttft(self) -> float:
        """Seconds to the first token."""
        return self.arrivals[0][0] - self.asked

    @property
    def latency(self) -> float:
        """Seconds to the last token (E2E)."""
        return self.arrivals[-1][0] - self.asked

    @property
    def tpot(self) -> float | None:
        """Seconds for each token after the first; a reply of one token has none."""
        return (self.latency - self.ttft) / (self.tokens - 1) if self.tokens > 1 else None

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """When each wait between arrivals began and ended (ITL); tokens that arrive together are one arrival."""
        return list(itertools.pairwise(time for time, _ in self.arrivals))
