"""What every engine is asked to do in one measurement under load."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Traffic:
    """`concurrency` clients that each ask, wait for the whole reply, and ask again, `turns` times."""

    concurrency: int
    prompt_len: int
    new_tokens: int
    turns: int = 2
    seed: int = 0

    def prompts(self, vocab_size: int) -> list[list[int]]:
        """Random tokens that no other traffic and no other seed begins with: prefix caches find nothing."""
        rng = np.random.default_rng((self.seed, self.prompt_len, self.concurrency))
        return rng.integers(3, vocab_size, (self.concurrency * self.turns, self.prompt_len)).tolist()
