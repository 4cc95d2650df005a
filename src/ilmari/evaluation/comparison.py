"""Models beside a first one on the same text: perplexity, agreement, and how far apart their expectations are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import numpy as np

from ilmari.engine.llm import LLM
from ilmari.errors import RequestError
from ilmari.evaluation.corpus import Corpus
from ilmari.evaluation.journal import Journal, Row
from ilmari.evaluation.reading import read
from ilmari.model.tokenizer import Tokenizer
from ilmari.report import Report


@dataclass(frozen=True)
class Likeness:
    """One model beside the first, over all scored tokens.

    increase: by what share its perplexity is above the first's; agreement: at what share of the tokens both find the
    same one most probable; kl_mean and kl_p99: KL(first || this) in nats, its mean and 99th percentile.
    """

    perplexity: float
    increase: float
    agreement: float
    kl_mean: float
    kl_p99: float


@dataclass(frozen=True)
class Comparison:
    """models: in the order given, the first beside itself; scored: tokens that each model predicted."""

    models: tuple[Likeness, ...]
    scored: int


def check_vocabularies(tokenizers: Sequence[Tokenizer], names: Sequence[object]) -> None:
    """Every token id must stand for the same bytes in all models.

    Raises:
        RequestError: naming the first model in which one does not, and the token.
    """
    first = tokenizers[0]
    for other, name in zip(tokenizers[1:], names[1:], strict=True):
        if difference := _difference(first, other):
            raise RequestError(f"{names[0]} and {name} differ in {difference}; compare models of one vocabulary.")


def compare(llms: Sequence[LLM], corpus: Corpus, journal: Journal, report: Report) -> Comparison:
    """Read every window of the corpus with every model; their vocabularies must be one.

    Raises:
        ArtifactError: a model's logits are not finite.
        OutputError: as the journal.
    """
    rows = journal.run("windows", corpus.windows, lambda window: _compare(llms, window), report)
    scored = sum(row["scored"] for row in rows)
    losses = np.sum([row["losses"] for row in rows], axis=0)
    agreed = np.sum([row["agreed"] for row in rows], axis=0)
    divergences = np.concatenate([row["divergences"] for row in rows], axis=1)
    return Comparison(
        tuple(
            Likeness(
                perplexity=exp(loss / scored),
                increase=exp((loss - losses[0]) / scored) - 1,
                agreement=float(same / scored),
                kl_mean=float(its_divergences.mean()),
                kl_p99=float(np.percentile(its_divergences, 99)),
            )
            for loss, same, its_divergences in zip(losses, agreed, divergences, strict=True)
        ),
        scored,
    )


def _compare(llms: Sequence[LLM], window: Sequence[int]) -> Row:
    """Of each model: the sum of its losses, how often it agrees with the first, and the divergence at every token."""
    losses = np.zeros(len(llms))
    agreed = np.zeros(len(llms), np.int64)
    divergences = []
    for targets, models in read(llms, window):
        first = models[0]
        losses -= [model.logprobs(targets).sum() for model in models]
        agreed += [np.count_nonzero(model.best == first.best) for model in models]
        divergences.append([first.divergence(model) for model in models])
    return {
        "scored": len(window) - 1,
        "losses": losses.tolist(),
        "agreed": agreed.tolist(),
        "divergences": np.concatenate(divergences, axis=1).tolist(),
    }


def _difference(first: Tokenizer, other: Tokenizer) -> str | None:
    """In what two vocabularies differ, for a sentence."""
    if first.vocab_size != other.vocab_size:
        return f"their vocabularies ({first.vocab_size:,} and {other.vocab_size:,} tokens)"
    for token in range(first.vocab_size):
        ours, theirs = first.id_to_bytes(token), other.id_to_bytes(token)
        if ours != theirs:
            return f"token {token} ({ours!r} and {theirs!r})"
    return None
