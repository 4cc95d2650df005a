"""How much of a prompt a step can take before running replies wait too long for it."""

from collections import defaultdict, deque

import numpy as np
from numpy.typing import NDArray

STRETCH = 2.0
"""A step with a part of a prompt may take this many times as long as one of the same replies alone."""

FIRST = 8
"""Rows of a step before longer ones were measured."""

WINDOW = 8
"""Steps of about the same number of rows that are remembered; one that was disturbed does not move their median."""

YOUNG = 32
"""Steps since which something was measured that still holds: a prompt's steps take longer as its context grows."""


class Pace:
    """Learns how long steps take from those that were run, of replies, of prompts, or of both.

    A point of the curve is the median of the last steps whose numbers of rows have as many binary digits; between
    points it is straight. Twice the rows take at most twice the time, as the weights are read once for all of them: so
    much a point may lie above the one before it, and so the curve goes on beyond the last one. That may be too much,
    and the next step, which follows it, tells more: the steps grow to the right size and do not overshoot.
    """

    def __init__(self) -> None:
        self._steps: defaultdict[int, deque[tuple[int, float]]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._latest: dict[int, int] = {}
        self._count = 0

    def take(self, rows: int, seconds: float) -> None:
        """A step of `rows` rows took `seconds`."""
        self._count += 1
        self._latest[rows.bit_length()] = self._count
        self._steps[rows.bit_length()].append((rows, seconds))

    def rows(self, replies: int) -> int:
        """Rows that a step with prompts and `replies` replies may have, both together; at least 1."""
        if not self._steps or max(self._steps) < FIRST.bit_length():
            return FIRST
        alone = np.interp(replies, *self._curve(sorted(self._steps)))
        longer = [digits for digits in sorted(self._steps) if digits > replies.bit_length()]
        young = [digits for digits in longer if self._count - self._latest[digits] < YOUNG]
        rows, seconds = self._curve(young, (replies, alone))
        limit = STRETCH * alone
        if limit > seconds[-1]:
            return int(rows[-1] * limit / seconds[-1])
        return max(1, int(np.interp(limit, seconds, rows)))

    def _curve(
        self, measured: list[int], *known: tuple[float, float]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rows and seconds, both ascending: the points that are known, then those of steps of so many digits."""
        rows, seconds = np.array([*known, *(np.median(self._steps[digits], axis=0) for digits in measured)]).T
        for at in range(1, len(rows)):  # else one disturbed step, never run again, would be a wall
            seconds[at] = min(seconds[at], seconds[at - 1] * rows[at] / rows[at - 1])
        return rows, np.maximum.accumulate(seconds)
