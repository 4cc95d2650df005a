"""Ends a text at a stop string, however the text is cut into chunks."""


class StopStrings:
    """Passes one answer's text on as it is written, up to its first stop string.

    The first is the one that starts earliest, the shortest of those that start together, as `str.find` on the whole
    text would tell. Text is held back only while it could be the beginning of a stop string. A stop string that is
    complete also waits while one that started earlier is still possible: of "bc" and "abcd", "abc" may end as either.
    """

    def __init__(self, stops: tuple[str, ...], include: bool) -> None:
        """`stops` are not empty strings; `include` shows the stop string itself too."""
        self._stops = stops
        self._include = include
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met; `flush` can be what settles it."""
        return self._stopped

    def push(self, text: str) -> tuple[str, bool]:
        """The text that may be shown now, and whether the answer ends here; after the end, ("", True)."""
        if self._stopped:
            return "", True
        self._held += text
        return self._release(self._first_possible_start()), self._stopped

    def flush(self) -> str:
        """The rest of the text, when no more will come; ask `stopped` afterwards."""
        return self._release(len(self._held))

    def _first_possible_start(self) -> int:
        """The earliest place from which the held text is the beginning of a stop string; its length if nowhere."""
        end = len(self._held)
        for start in range(max(0, end - self._longest + 1), end):
            if any(stop.startswith(self._held[start:]) for stop in self._stops):
                return start
        return end

    def _release(self, settled: int) -> str:
        """Take text off the front of what is held; no stop string that is yet to come can start before `settled`."""
        found = [(start, len(stop)) for stop in self._stops if (start := self._held.find(stop)) >= 0]
        first = min(found, default=None)
        if first is None or first[0] > settled:
            shown, self._held = self._held[:settled], self._held[settled:]
            return shown
        start, length = first
        shown, self._held = self._held[: start + length * self._include], ""
        self._stopped = True
        return shown
