"""Replies as their readers saw them, and what is to be said of many."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Reply:
    """When a reply was asked for, and when how many of its tokens came: seconds of one clock."""

    asked: float
    arrivals: list[tuple[float, int]]

    @property
    def tokens(self) -> int:
        return sum(count for _, count in self.arrivals)

    @property
    def first_after(self) -> float:
        """Seconds to the first token (TTFT)."""
        return self.arrivals[0][0] - self.asked

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """When each wait between arrivals began and ended (ITL)."""
        times = [time for time, _ in self.arrivals]
        return list(itertools.pairwise(times))

    @property
    def decode_tok_s(self) -> float:
        """Tokens a second after the first arrival."""
        (first, count), (last, _) = self.arrivals[0], self.arrivals[-1]
        return (self.tokens - count) / (last - first)


def waits(gaps: Iterable[tuple[float, float]]) -> list[float]:
    """Seconds of each."""
    return [end - begin for begin, end in gaps]


def percentile_99(values: Sequence[float]) -> float:
    """The smallest of the values that at least 99% do not exceed."""
    return float(np.percentile(values, 99, method="inverted_cdf"))


def figures(replies: Sequence[Reply]) -> dict[str, float]:
    """Output tokens a second from the first question to the last token; TTFT and ITL in seconds."""
    begin = min(reply.asked for reply in replies)
    end = max(reply.arrivals[-1][0] for reply in replies)
    between = [wait for reply in replies for wait in waits(reply.gaps)]
    first = [reply.first_after for reply in replies]
    return {
        "output_tok_s": sum(reply.tokens for reply in replies) / (end - begin),
        "ttft_median_s": statistics.median(first),
        "ttft_p99_s": percentile_99(first),
        "itl_median_s": statistics.median(between),
        "itl_p99_s": percentile_99(between),
    }
