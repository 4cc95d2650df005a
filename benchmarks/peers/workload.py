"""What every engine is asked to do in one measurement, and what comes out of it."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Workload:
    """`batch` prompts of `prompt_len` tokens at once, then `new_tokens` tokens for each.

    One token more than the prompt costs nothing: it is part of the prefill.
    """

    prompt_len: int
    batch: int
    new_tokens: int
    seed: int = 0

    def prompts(self, vocab_size: int) -> list[list[int]]:
        """Random tokens, which no other workload and no other seed begins with: prefix caches find nothing."""
        rng = np.random.default_rng((self.seed, self.prompt_len, self.batch))
        return rng.integers(3, vocab_size, (self.batch, self.prompt_len)).tolist()

    @property
    def figures(self) -> dict[str, str]:
        """The figures that it gives: name, and field of `Speed`."""
        prefill = {f"prefill_{self.prompt_len}": "prefill_tok_s"} if self.batch == 1 else {}
        decode = {f"decode_batch_{self.batch}": "decode_tok_s"} if self.new_tokens > 1 else {}
        return prefill | decode


@dataclass(frozen=True)
class Speed:
    """Tokens a second, all sequences together: of the prompts up to the first new token, and after that.

    decode_tok_s is 0 where there was only one new token.
    """

    prefill_tok_s: float
    decode_tok_s: float


def run_steps(workload: Workload, step: Callable[[], Collection[int]]) -> Speed:
    """Time an engine that works in steps; `step` runs one and says which sequences gained a token.

    Decoding counts from where all sequences have begun to where the first one ends.
    """
    started: set[int] = set()
    begin = time.perf_counter()
    while len(started) < workload.batch:
        started.update(step())
    prefill = time.perf_counter() - begin
    tokens, decode = 0, 0.0
    while True:
        begin = time.perf_counter()
        gained = step()
        if len(gained) < workload.batch:
            break
        decode += time.perf_counter() - begin
        tokens += len(gained)
    prompt_tokens = workload.batch * workload.prompt_len
    return Speed(prompt_tokens / prefill, tokens / decode if tokens else 0.0)
