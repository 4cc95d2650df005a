"""Guesses how a sequence goes on: as it did when its last tokens were there before.

Prompt lookup decoding (Saxena, 2023): answers that quote their prompt, or themselves, are drafted at no cost.
"""

from collections.abc import Sequence as Many

LONGEST, SHORTEST = 4, 2
"""Tokens that must be there before, tried from the longest to the shortest."""

MEMORY = 0.25
"""The last draft's part in the average of what was accepted."""

PAYS = 0.3
"""The average share of accepted tokens from which on drafting pays."""

PAUSE = 32
"""Tokens without a draft after the average has fallen below."""

AHEAD = 2
"""A draft is at most this much longer than what was accepted of the one before."""


class Drafter:
    """One sequence's drafts, and how well they do."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}  # some tokens, and where they last went on
        self._seen = 0
        self._share = 0.5
        self._longest = AHEAD
        self._paused_until = 0

    def draft(self, tokens: list[int], count: int) -> list[int]:
        """Up to `count` tokens that may follow `tokens`, which have only grown since the last call."""
        if count < 1 or len(tokens) < self._paused_until:
            return []
        self._learn(tokens)
        for length in range(LONGEST, SHORTEST - 1, -1):
            start = self._after.get(tuple(tokens[-length:]))
            if start is not None:
                # What repeats may run into itself: of "abcabcab" the draft is "cabc", whatever its length.
                period = len(tokens) - start
                return [tokens[start + index % period] for index in range(min(count, self._longest))]
        return []

    def judge(self, drafted: Many[int], accepted: int, tokens: int) -> None:
        """Take in how many of a draft's tokens were right; the sequence has `tokens` tokens now."""
        self._longest = accepted + AHEAD
        self._share += MEMORY * (accepted / len(drafted) - self._share)
        if self._share < PAYS:
            self._paused_until = tokens + PAUSE
            self._share = PAYS  # the next draft has to be a good one

    def _learn(self, tokens: list[int]) -> None:
        """All runs of tokens that something follows."""
        for end in range(max(self._seen, SHORTEST), len(tokens)):
            for length in range(SHORTEST, min(LONGEST, end) + 1):
                self._after[tuple(tokens[end - length : end])] = end
        self._seen = len(tokens)
