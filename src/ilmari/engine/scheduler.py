"""Which tokens the next step computes, and the blocks of the KV cache for them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence as Many

from ilmari.engine.batch import Work
from ilmari.engine.block_pool import BlockPool
from ilmari.engine.kv_cache import blocks_for
from ilmari.engine.pace import Pace
from ilmari.engine.sequence import Sequence
from ilmari.kernels.kv_layout import BLOCK_SIZE

DRAFT_ROWS = 5
"""Rows of a step up to which there are drafts. Three cost as much as one, whose time goes into reading the weights, and
five 1.6 times as much. No linear layer changes its kernel at so few rows, so drafts change no number."""

LEAST_PROMPT_ROWS = 4
"""A prompt goes on by so many tokens a step, however long replies wait for it."""


class Scheduler:
    """Waiting and running sequences, both in order of arrival.

    A sequence runs when there are blocks for its tokens and one more for each that runs. It takes more as it grows.
    Where there is none left, the latest arrival gives its blocks back and waits again, before all others: its tokens
    are kept, and their keys and values computed again. The first arrival never has to.
    """

    def __init__(
        self,
        pool: BlockPool,
        *,
        max_num_seqs: int,
        max_rows: int,
        throughput: bool,
        enable_prefix_caching: bool,
        num_speculative_tokens: int,
    ) -> None:
        """The limits are those of `Engine`; a step has at most `max_rows` rows, which are enough for all replies."""
        self._pool = pool
        self._max_num_seqs = max_num_seqs
        self._max_rows = max_rows
        self._throughput = throughput
        self._caching = enable_prefix_caching
        self._drafts = num_speculative_tokens
        self.pace = Pace()
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.prefix_queries = 0  # tokens of prompts
        self.prefix_hits = 0
        self.preemptions = 0

    def add(self, sequence: Sequence) -> None:
        """Let it wait for its turn."""
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, running or waiting, and free its blocks."""
        if sequence in self.waiting:
            self.waiting.remove(sequence)
        else:
            self.running.remove(sequence)
            self._release(sequence)

    def schedule(self) -> list[Work]:
        """The next step: a token of each running reply, pieces of prompts in the room that is left, then drafts."""
        self._grow()
        self._admit()
        replies = [sequence for sequence in self.running if sequence.pending == 1]
        prompts = [sequence for sequence in self.running if sequence.pending > 1]
        pieces = divide(prompts, self._room(len(replies), len(prompts)))
        left = min(DRAFT_ROWS, self._max_rows) - len(replies) - sum(piece.count for piece in pieces)
        drafts = min(self._drafts, left // len(replies)) if replies else 0
        return [self._reply(sequence, drafts) for sequence in replies] + pieces

    def keep(self, sequence: Sequence) -> None:
        """Let others find those of its blocks that have become full."""
        full = sequence.computed // BLOCK_SIZE
        if self._caching and full > sequence.named:
            names = sequence.chain.names(sequence.tokens, full)
            for block, name in zip(sequence.blocks[sequence.named : full], names[sequence.named :], strict=True):
                self._pool.name(block, name)
            sequence.named = full

    def _grow(self) -> None:
        """A block for every known token of those that run, or of as many of them as possible."""
        index = 0
        while index < len(self.running):
            sequence = self.running[index]
            missing = max(0, blocks_for(len(sequence.tokens)) - len(sequence.blocks))
            if missing <= self._pool.free:
                sequence.blocks += self._pool.allocate(missing)
                index += 1
            else:
                self._preempt(self.running.pop())

    def _preempt(self, sequence: Sequence) -> None:
        self._release(sequence)
        sequence.computed = sequence.named = 0
        sequence.preemptions += 1
        self.preemptions += 1
        self.waiting.appendleft(sequence)

    def _release(self, sequence: Sequence) -> None:
        self._pool.release(sequence.blocks)
        sequence.blocks = []

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self._max_num_seqs:
            sequence = self.waiting[0]
            found = self._find(sequence)
            missing = blocks_for(len(sequence.tokens)) - len(found)
            if missing + sum(map(self._pool.is_free, found)) + len(self.running) > self._pool.free:
                return
            self.waiting.popleft()
            self._pool.share(found)
            sequence.blocks = found + self._pool.allocate(missing)
            sequence.named = len(found)
            sequence.computed = len(found) * BLOCK_SIZE
            if not sequence.preemptions:
                self.prefix_queries += sequence.prompt_len
                self.prefix_hits += sequence.computed
                sequence.cached_tokens = sequence.computed
            self.running.append(sequence)

    def _find(self, sequence: Sequence) -> list[int]:
        """Blocks that hold its beginning; tokens whose logits are wanted, the last one among them, are computed."""
        if not self._caching or sequence.params.prompt_logprobs is not None:
            return []
        return self._pool.find(sequence.chain.names(sequence.tokens, (len(sequence.tokens) - 1) // BLOCK_SIZE))

    def _room(self, replies: int, prompts: int) -> int:
        """Rows for prompts."""
        rows = self._max_rows
        if replies and prompts and not self._throughput:
            rows = min(rows, max(self.pace.rows(replies), replies + LEAST_PROMPT_ROWS))
        return rows - replies

    def _reply(self, sequence: Sequence, drafts: int) -> Work:
        length = len(sequence.tokens)
        # At least one token is drawn without a draft, and that may be the last one.
        drafted = sequence.drafter.draft(sequence.tokens, min(drafts, sequence.max_len - length - 1))
        missing = max(0, blocks_for(length + len(drafted)) - len(sequence.blocks))
        sequence.blocks += self._pool.allocate(min(missing, self._pool.free))
        drafted = drafted[: len(sequence.blocks) * BLOCK_SIZE - length]
        return Work(sequence, count=1, outputs=1 + len(drafted), drafts=tuple(drafted))


def divide(prompts: Many[Sequence], room: int) -> list[Work]:
    """Pieces of prompts, in order of arrival, with `room` rows in all.

    Half of them are for the first, so every prompt is read in at most twice the time that it takes alone once it is
    the first. The others go to whichever has least left, so a short prompt does not wait for a long one, and of
    equal ones the first is read at full speed.
    """
    counts = Counter[Sequence]()
    half = [(sequence, room - room // 2) for sequence in prompts[:1]]
    for sequence, most in half + [(sequence, room) for sequence in sorted(prompts, key=lambda each: each.pending)]:
        count = min(most, room, sequence.pending - counts[sequence])
        counts[sequence] += count
        room -= count
    return [
        Work(sequence, counts[sequence], outputs=sequence.outputs(counts[sequence]))
        for sequence in prompts
        if counts[sequence]
    ]
