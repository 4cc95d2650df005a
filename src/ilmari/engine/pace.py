"""How much of a prompt a step can take before running replies wait too long for it."""

from collections import deque
from statistics import median

STRETCH = 2.5
"""A step with a part of a prompt may take this many times as long as one of replies alone."""

FIRST = 8
"""Rows of a step before there are measurements."""

WINDOW = 8
"""Steps of a kind that are remembered; the median of them is not moved by one that was disturbed."""


class Pace:
    """Learns from the steps that were run.

    The rows that fit into the time are extrapolated from the rows per second of the last steps with prompts. A few
    rows take less than their share, as the weights are read once for all of them: the estimate is then too low, and
    the next step, which follows it, tells more. So the steps grow to the right size and do not overshoot.
    """

    def __init__(self) -> None:
        self._replies: deque[float] = deque(maxlen=WINDOW)  # seconds
        self._mixed: deque[float] = deque(maxlen=WINDOW)  # rows per second

    @property
    def rows(self) -> int:
        """Rows that a step with prompts may have, those of replies included; at least 1."""
        if not self._replies or not self._mixed:
            return FIRST
        return max(1, int(STRETCH * median(self._replies) * median(self._mixed)))

    def take(self, replies: int, prompts: int, seconds: float) -> None:
        """A step took `seconds` for so many rows of replies and of prompts; without replies it tells nothing."""
        if replies and prompts:
            self._mixed.append((replies + prompts) / seconds)
        elif replies:
            self._replies.append(seconds)
