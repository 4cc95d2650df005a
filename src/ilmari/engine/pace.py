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
        self._steps: defaultdict[int, deque[tuple[int, int, float]]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._count = 0

    def take(self, rows: int, seconds: float) -> None:
        """A step of `rows` rows took `seconds`."""
        self._count += 1
        self._steps[rows.bit_length()].append((self._count, rows, seconds))

    def rows(self, replies: int) -> int:
        """Rows that a step with prompts and `replies` replies may have, both together; at least 1."""
        fewest, most = min(self._steps, default=0), max(self._steps, default=0)
        if most < FIRST.bit_length() or fewest > max(replies, FIRST).bit_length():
            return FIRST
        alone = float(np.interp(replies, *_curve(list(self._points(0).values()))))
        young = self._points(self._count - YOUNG)
        longer = [point for digits, point in young.items() if digits > replies.bit_length()]
        rows, seconds = _curve([(replies, alone), *longer])
        limit = STRETCH * alone
        if limit > seconds[-1]:
            return int(rows[-1] * limit / seconds[-1])
        return max(1, int(np.interp(limit, seconds, rows)))

    def _points(self, since: int) -> dict[int, tuple[float, float]]:
        """Rows and seconds of the steps after the first `since`, by binary digits of the rows, ascending."""
        points = {}
        for digits, steps in sorted(self._steps.items()):
            if measured := [(rows, seconds) for when, rows, seconds in steps if when > since]:
                rows, seconds = np.median(measured, axis=0)
                points[digits] = (float(rows), float(seconds))
        return points


def _curve(points: list[tuple[float, float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows and seconds, both ascending.

    A step that is disturbed takes longer, never less. So where few steps were measured and more rows took less time,
    those are right; and where more rows took more than in proportion, the fewer ones are. Else one disturbed step, of
    a size that never runs again, would be believed for ever.
    """
    rows, seconds = np.array(points).T
    seconds = np.minimum.accumulate(seconds[::-1])[::-1]
    for at in range(1, len(rows)):
        seconds[at] = min(seconds[at], seconds[at - 1] * rows[at] / rows[at - 1])
    return rows, seconds
