"""Rows put together from a few of each rank's best tokens: what is drawn from them is what whole rows give."""

from functools import cache

import numpy as np
import pytest
from sampling_kernels import sampling_kernels
from small_model import SMALL

from ilmari.engine.candidates import ALL, best, deciding, lay_out
from ilmari.engine.sampler import Sampler, make_rng
from ilmari.engine.sampling_params import SamplingParams
from ilmari.errors import ArtifactError
from ilmari.kernels.library import aligned_copy

VOCAB = SMALL.vocab_size


@cache
def sampler() -> Sampler:
    return Sampler(sampling_kernels(VOCAB), VOCAB)


def put_together(rows: np.ndarray, count: int) -> np.ndarray:
    """Rows as rank 0 sees them, of four ranks, the last of which has no token."""
    parts = [range(400), range(400, 800), range(800, VOCAB), range(VOCAB, VOCAB)]
    gathered = [best(rows[:, part.start : part.stop], part, count, VOCAB) for part in parts]
    assert {each.shape for each in gathered} == {(len(rows), count)}
    return lay_out(gathered, VOCAB + 1)[:, :VOCAB]


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0),
        SamplingParams(top_k=1),
        SamplingParams(top_k=5, temperature=3.0),
        SamplingParams(top_k=40, temperature=0.01),
        SamplingParams(top_k=40, top_p=0.8),
        SamplingParams(top_k=300, min_p=0.02, top_p=0.9, temperature=100.0),
    ],
    ids=lambda params: f"k={params.top_k} p={params.top_p} min={params.min_p} t={params.temperature}",
)
def test_same_draws(params: SamplingParams) -> None:
    rng = np.random.default_rng(3)
    rows = (4 * rng.standard_normal((50, VOCAB))).astype(np.float32)
    rows[::2] = np.round(rows[::2])  # many equals
    together = put_together(rows, deciding(params))
    for seed, (row, other) in enumerate(zip(rows, together, strict=True)):
        drawn = []
        for logits in (row, other):
            sampler().load(aligned_copy(logits))
            drawn.append(sampler().sample(params, make_rng(seed)))
        assert drawn[0] == drawn[1]


def test_equals_give_the_lowest_id() -> None:
    """Between ranks as within one."""
    rows = np.zeros((1, VOCAB), np.float32)
    rows[0, [700, 650, 950, 399]] = 1
    assert put_together(rows, 1).argmax() == 399


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_noticed(value: float) -> None:
    rows = np.random.default_rng(0).standard_normal((1, VOCAB)).astype(np.float32)
    rows[0, 901] = value
    with pytest.raises(ArtifactError, match="token 901"):
        sampler().load(aligned_copy(put_together(rows, 1)[0]))


@pytest.mark.parametrize(
    ("params", "count"),
    [
        (SamplingParams(temperature=0), 1),
        (SamplingParams(temperature=0, top_k=7, top_p=0.5), 1),
        (SamplingParams(top_k=7), 7),
        (SamplingParams(top_k=-1), ALL),
        (SamplingParams(), ALL),
        (SamplingParams(top_p=0.5), ALL),
        (SamplingParams(min_p=0.5), ALL),
        (SamplingParams(temperature=0, logprobs=0), ALL),
        (SamplingParams(temperature=0, prompt_logprobs=0), ALL),
        (SamplingParams(temperature=0, logit_bias={3: 1.0}), ALL),
        (SamplingParams(temperature=0, repetition_penalty=1.1), ALL),
        (SamplingParams(temperature=0, min_tokens=1), ALL),
    ],
)
def test_how_many_decide(params: SamplingParams, count: int) -> None:
    assert deciding(params) == count
