"""How much of a prompt a step can take before running replies wait too long for it."""

from collections import defaultdict, deque

import numpy as np

STRETCH = 2.2
"""A step with a part of a prompt may take this many times as long as one of the same replies alone."""

FIRST = 8
"""Rows of a step before longer ones were measured."""

WINDOW = 8
"""Steps of about the same number of rows that are remembered; one that was disturbed does not move their median."""


class Pace:
    """Learns how long steps take from those that were run, of replies, of prompts, or of both.

    A point of the curve is the median of the last steps whose numbers of rows have as many binary digits; between
    points it is straight. Twice the rows take at most twice the time, as the weights are read once for all of them: so
    much a point may lie above the one before it, and so the curve goes on beyond the last one. That may be too much,
    and the next step, which follows it, tells more: the steps grow to the right size and do not overshoot.
    """

    def __init__(self) -> None:
        self._steps: defaultdict[int, deque[tuple[int, float]]] = defaultdict(lambda: deque(maxlen=WINDOW))

    def take(self, rows: int, seconds: float) -> None:
        """A step of `rows` rows took `seconds`."""
        self._steps[rows.bit_length()].append((rows, seconds))

    def rows(self, replies: int) -> int:
        """Rows that a step with prompts and `replies` replies may have, both together; at least 1."""
        points = [np.median(self._steps[digits], axis=0) for digits in sorted(self._steps)]
        if not points or points[-1][0] < FIRST:
            return FIRST
        rows, seconds = np.array(points).T
        for at in range(1, len(rows)):  # else one disturbed step, never run again, would be a wall
            seconds[at] = min(seconds[at], seconds[at - 1] * rows[at] / rows[at - 1])
        seconds = np.maximum.accumulate(seconds)
        limit = STRETCH * np.interp(replies, rows, seconds)
        if limit > seconds[-1]:
            return int(rows[-1] * limit / seconds[-1])
        return max(1, int(np.interp(limit, seconds, rows)))
