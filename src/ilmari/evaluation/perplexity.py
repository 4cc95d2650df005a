"""Perplexity of a text: how surprised a model is by each token, given those before it in its window."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import exp, log
from typing import Any

from ilmari.engine.llm import LLM
from ilmari.evaluation.corpus import Corpus
from ilmari.evaluation.journal import Journal
from ilmari.evaluation.reading import read
from ilmari.report import Report


@dataclass(frozen=True)
class Perplexity:
    """Of a text, or of a window of it.

    loss: sum of -log p over the scored tokens, in nats; scored: all tokens but the first of each window; bytes: what
    the scored tokens have in UTF-8; tokens: all that the model read; seconds: what that took.
    """

    loss: float
    scored: int
    bytes: int
    tokens: int
    seconds: float

    def fields(self) -> dict[str, Any]:
        """The figures of JSON; bits_per_byte is null for a text without bytes."""
        return {
            "perplexity": exp(self.loss / self.scored),
            "bits_per_byte": self.loss / log(2) / self.bytes if self.bytes else None,
            "scored": self.scored,
            "bytes": self.bytes,
            "tokens": self.tokens,
            "tok_s": self.tokens / self.seconds,
        }


def measure(llm: LLM, corpus: Corpus, journal: Journal, report: Report) -> Perplexity:
    """Read every window of the corpus, each as a sequence of its own.

    Raises:
        ArtifactError: the model's logits are not finite.
        OutputError: as the journal.
    """
    rows = journal.run("windows", corpus.windows, lambda window: asdict(_measure(llm, window)), report)
    windows = [Perplexity(**row) for row in rows]
    return Perplexity(
        loss=sum(window.loss for window in windows),
        scored=sum(window.scored for window in windows),
        bytes=sum(window.bytes for window in windows),
        tokens=sum(window.tokens for window in windows),
        seconds=sum(window.seconds for window in windows),
    )


def _measure(llm: LLM, window: Sequence[int]) -> Perplexity:
    start = time.perf_counter()
    loss = -sum(float(expected.logprobs(targets).sum()) for targets, (expected,) in read([llm], window))
    size = sum(len(llm.tokenizer.id_to_bytes(token)) for token in window[1:])
    return Perplexity(loss, len(window) - 1, size, len(window), time.perf_counter() - start)
