"""Log-probabilities against sums in Python floats."""

import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ilmari.engine.logprobs import TokenLogprob, top_logprobs
from ilmari.engine.sampler import make_rng
from ilmari.engine.sampling_params import SamplingParams
from ilmari.engine.sequence import Sequence
from ilmari.engine.step_sampler import StepSampler


def log_softmax(logits: npt.NDArray[np.float32]) -> list[float]:
    most = max(map(float, logits))
    log_total = most + math.log(math.fsum(math.exp(float(logit) - most) for logit in logits))
    return [float(logit) - log_total for logit in logits]


@pytest.mark.parametrize("vocab", [1, 2, 97, 331])
@pytest.mark.parametrize("k", [0, 1, 5, 20])
def test_the_best_tokens_and_the_drawn_one(vocab: int, k: int) -> None:
    logits = (4.0 * np.random.default_rng(vocab).standard_normal(vocab)).astype(np.float32)
    logits.flags.writeable = False
    expected = log_softmax(logits)
    ranking = sorted(range(vocab), key=lambda token_id: -expected[token_id])
    for token_id in range(vocab):
        entries = top_logprobs(logits, token_id, k)
        drawn_first = [] if token_id in ranking[:k] else [token_id]
        assert [entry.token_id for entry in entries] == drawn_first + ranking[:k]
        for entry in entries:
            assert entry.logprob == pytest.approx(expected[entry.token_id], abs=1e-12)
            assert entry.rank == 1 + ranking.index(entry.token_id)


def test_equals_are_ranked_by_id_whether_listed_or_not() -> None:
    logits = np.array([0.0, 2.0, 0.0, 2.0, 0.0], dtype=np.float32)
    assert [(entry.token_id, entry.rank) for entry in top_logprobs(logits, 4, 3)] == [(4, 5), (1, 1), (3, 2), (0, 3)]
    assert [(entry.token_id, entry.rank) for entry in top_logprobs(logits, 2, 0)] == [(2, 4)]


def test_a_probability_of_one_half_is_exact_and_of_plain_types() -> None:
    entry = top_logprobs(np.array([7.0, 7.0], dtype=np.float32), 1, 0)[0]
    assert entry == TokenLogprob(token_id=1, logprob=math.log(0.5), rank=2)
    assert [type(value) for value in (entry.token_id, entry.logprob, entry.rank)] == [int, float, int]


def test_a_large_vocabulary_loses_no_probability_to_rounding() -> None:
    """A float32 sum of 92543 small terms would be off in the sixth digit."""
    logits = np.full(92_543, -11.3, dtype=np.float32)
    logits[17] = 0.1
    assert top_logprobs(logits, 17, 1)[0].logprob == pytest.approx(log_softmax(logits)[17], abs=1e-12)


def test_far_away_logits_stay_finite() -> None:
    most = float(np.finfo(np.float32).max)
    entries = top_logprobs(np.array([most, -most], dtype=np.float32), 1, 1)
    assert [entry.token_id for entry in entries] == [1, 0]
    assert entries[1].logprob == 0.0
    assert entries[0].logprob == -2 * most


def test_a_prompt_token_is_scored_by_its_row() -> None:
    no_kernels = defaultdict(lambda: None)
    sampler = StepSampler(no_kernels, 97, Path("no tokenizer"))
    logits = np.random.default_rng(3).standard_normal((2, 97)).astype(np.float32)
    params = SamplingParams(prompt_logprobs=3)
    sequence = Sequence(0, [1, 2, 3], 3, 9, params, frozenset(), np.zeros(1, np.float32), make_rng(0))
    sampler.begin(logits, [sequence, sequence])
    assert sampler.score(1, sequence, 5) == top_logprobs(logits[1], 5, 3)
    assert sampler.score(0, sequence, 5) == top_logprobs(logits[0], 5, 3)
