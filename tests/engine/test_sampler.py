"""The sampler against a plain implementation of the published definitions, in Python floats."""

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sampling_kernels import sampling_kernels

from ilmari.engine.sampler import Sampler, make_rng
from ilmari.engine.sampling_params import SamplingParams
from ilmari.engine.top_ids import top_ids
from ilmari.errors import ArtifactError
from ilmari.kernels.library import aligned_copy

ALMOST_ONE = math.nextafter(1.0, 0.0)


@cache
def sampler(vocab: int) -> Sampler:
    return Sampler(sampling_kernels(vocab), vocab)


def sample(logits: npt.NDArray[np.float32], params: SamplingParams, rng: Any) -> int:
    drawing = sampler(logits.size)
    drawing.load(aligned_copy(logits))
    return drawing.sample(params, rng)


class FixedRng:
    """Stands in for a generator whose next numbers are known."""

    def __init__(self, *uniforms: float) -> None:
        self.left = list(uniforms)

    def random(self) -> float:
        return self.left.pop(0)


def draw(logits: npt.NDArray[np.float32], uniform: float, **params: Any) -> int:
    rng = FixedRng(uniform)
    token_id = sample(logits, SamplingParams(**params), rng)
    assert rng.left == [], "a draw takes exactly one number"
    return token_id


def reference(
    logits: npt.NDArray[np.float32],
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> dict[int, float]:
    """Token id -> probability of every token that may be drawn: vLLM's steps in vLLM's order, each written out."""
    scores = {token_id: float(logit) for token_id, logit in enumerate(logits)}
    scores = {token_id: score / temperature for token_id, score in scores.items()}
    kept = softmax(scores)
    most = max(kept.values())
    kept = {token_id: share for token_id, share in kept.items() if share >= min_p * most}
    ranking = sorted(kept, key=lambda token_id: (-scores[token_id], token_id))
    if top_k > 0:
        ranking = ranking[:top_k]
    kept = softmax({token_id: scores[token_id] for token_id in ranking})
    nucleus: list[int] = []
    for token_id in ranking:
        if math.fsum(kept[other] for other in nucleus) >= top_p:
            break
        nucleus.append(token_id)
    return softmax({token_id: scores[token_id] for token_id in nucleus})


def softmax(scores: dict[int, float]) -> dict[int, float]:
    most = max(scores.values())
    weights = {token_id: math.exp(score - most) for token_id, score in scores.items()}
    total = math.fsum(weights.values())
    return {token_id: weight / total for token_id, weight in weights.items()}


def random_logits(seed: int, vocab: int) -> npt.NDArray[np.float32]:
    return (2.0 * np.random.default_rng(seed).standard_normal(vocab)).astype(np.float32)


FILTERS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.3},
    {"temperature": 2.5},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 10_000},
    {"top_p": 0.1},
    {"top_p": 0.9},
    {"top_p": 0.9999},
    {"min_p": 0.02},
    {"temperature": 0.8, "top_p": 0.95},
    {"temperature": 1.7, "top_k": 20, "top_p": 0.8},
    {"temperature": 0.6, "top_k": 3, "min_p": 0.2},
    {"temperature": 1.2, "top_k": 30, "min_p": 0.01, "top_p": 0.7},
    {"temperature": 1.2, "top_k": 5, "min_p": 0.3, "top_p": 0.99},
]


@pytest.mark.parametrize("vocab", [1, 2, 97, 331])
@pytest.mark.parametrize("params", FILTERS, ids=str)
def test_every_token_owns_its_share_of_the_line(params: dict[str, Any], vocab: int) -> None:
    """In ascending id, each kept token answers to the numbers from its cumulative probability up to the next one's."""
    logits = random_logits(vocab, vocab)
    shares = reference(logits, **params)
    low = 0.0
    for token_id in sorted(shares):
        high = low + shares[token_id]
        inset = min(1e-6, shares[token_id] / 4)
        for uniform in (low + inset, (low + high) / 2, high - inset):
            # A share near the rounding error of float32 sums has no interior to aim at.
            assert shares[token_id] < 4e-6 or draw(logits, uniform, **params) == token_id
        low = high
    assert draw(logits, 0.0, **params) == min(shares)
    assert draw(logits, ALMOST_ONE, **params) == max(shares)


def test_tokens_that_rules_exclude_are_not_drawn() -> None:
    drawing = sampler(331)
    for params in FILTERS:
        drawing.load(aligned_copy(random_logits(1, 331)))
        drawing.logits[np.arange(331) % 7 != 3] = -np.inf
        drawing.refresh()
        shares = reference(drawing.logits, **params)
        drawn = {drawing.sample(SamplingParams(**params), FixedRng((i + 0.5) / 500)) for i in range(500)}
        assert drawn <= {token_id for token_id, share in shares.items() if share > 0}
        assert {token_id for token_id, share in shares.items() if share > 0.003} <= drawn


@pytest.mark.parametrize("allowed", [[92_542], [3, 255, 256, 40_000]])
@pytest.mark.parametrize("params", [{"top_k": 40}, {"top_k": 2, "top_p": 0.9}, {"top_k": 300, "min_p": 0.1}], ids=str)
def test_few_tokens_that_can_be_drawn_of_a_real_vocabulary(params: dict[str, Any], allowed: list[int]) -> None:
    drawing = sampler(92_543)
    drawing.load(aligned_copy(np.zeros(92_543, np.float32)))
    drawing.logits[np.setdiff1d(np.arange(92_543), allowed)] = -np.inf
    drawing.refresh()
    drawn = {drawing.sample(SamplingParams(**params), FixedRng((i + 0.5) / 100)) for i in range(100)}
    assert drawn == set(allowed[: params["top_k"]])


@pytest.mark.parametrize("spread", [0.01, 1.0, 3.0])
@pytest.mark.parametrize(
    "params",
    [
        {"top_p": 0.95},
        {"top_p": 0.5, "temperature": 0.7},
        {"top_k": 5000},
        {"top_k": 363},
        {"top_k": 362},
        {"top_k": 40, "temperature": 0.8},
        {"top_k": 1},
        {"min_p": 0.05},
        {},
    ],
    ids=str,
)
def test_a_real_vocabulary(params: dict[str, Any], spread: float) -> None:
    logits = (spread * np.random.default_rng(1).standard_normal(92_543)).astype(np.float32)
    weights = np.exp((logits.astype(np.float64) - float(logits.max())) / params.get("temperature", 1.0))
    ranking = np.argsort(-weights, kind="stable")
    ranked = np.cumsum(weights[ranking])
    length = {
        "top_p": int(np.searchsorted(ranked, params.get("top_p", 1) * ranked[-1])) + 1,
        "top_k": params.get("top_k"),
        "min_p": np.count_nonzero(weights >= params.get("min_p", 0)),
    }[next(iter(params), "min_p")]
    kept = np.sort(ranking[:length])
    cumulative = np.cumsum(weights[kept])
    for uniform in np.linspace(0, ALMOST_ONE, 41):
        got = draw(logits, uniform, **params)
        low, high = np.searchsorted(cumulative, uniform * cumulative[-1] + cumulative[-1] * np.array([-1e-5, 1e-5]))
        assert kept[max(low, 0)] <= got <= kept[min(high, length - 1)]


def test_the_filters_of_the_table_do_keep_different_tokens() -> None:
    logits = random_logits(331, 331)
    kept = [len(reference(logits, **params)) for params in FILTERS]
    assert min(kept) == 1
    assert max(kept) == 331
    assert len(set(kept)) > 8


def test_draws_of_a_real_generator_follow_the_distribution() -> None:
    logits = random_logits(5, 41)
    params: dict[str, Any] = {"temperature": 1.4, "top_k": 11, "min_p": 0.001, "top_p": 0.97}
    shares = reference(logits, **params)
    rng, draws = make_rng(11), 20_000
    drawn = [sample(logits, SamplingParams(**params), rng) for _ in range(draws)]
    assert set(drawn) == set(shares)
    chi_square = sum((drawn.count(token_id) - draws * p) ** 2 / (draws * p) for token_id, p in shares.items())
    degrees = len(shares) - 1
    # Wilson and Hilferty's approximation of the 99.9 % quantile.
    assert chi_square < degrees * (1 - 2 / (9 * degrees) + 3.09 * math.sqrt(2 / (9 * degrees))) ** 3


def test_greedy_takes_the_lowest_of_the_best_and_draws_nothing() -> None:
    logits = np.array([-1.0, 4.0, 2.0, 4.0, 0.0], dtype=np.float32)
    no_draws = FixedRng()
    params = SamplingParams(temperature=0.0, top_k=3, top_p=0.5)
    assert sample(logits, params, no_draws) == 1


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({}, range(8)),
        ({"top_k": 3}, range(3)),
        ({"top_k": 1}, range(1)),
        ({"top_p": 0.5}, range(4)),
        ({"top_p": 0.51}, range(5)),
        ({"top_p": 5e-324}, range(1)),
        ({"min_p": 1.0}, range(8)),
        ({"min_p": 1.0, "top_k": 6, "top_p": 0.5}, range(3)),
    ],
    ids=str,
)
def test_of_equal_logits_the_lowest_ids_are_kept(params: dict[str, Any], kept: range) -> None:
    logits = np.full(8, -2.5, dtype=np.float32)
    drawn = [draw(logits, (step + 0.5) / 64, **params) for step in range(64)]
    assert set(drawn) == set(kept)
    assert drawn == sorted(drawn)


def test_min_p_of_one_keeps_only_the_best() -> None:
    logits = np.array([1.0, 3.0, 2.999, 3.0, -7.0], dtype=np.float32)
    assert {draw(logits, uniform, min_p=1.0) for uniform in (0.0, 0.49, 0.51, ALMOST_ONE)} == {1, 3}


def test_top_k_cuts_through_equals_at_its_edge() -> None:
    logits = np.array([0.0, 1.0, 5.0, 1.0, 1.0, 4.0, -3.0], dtype=np.float32)
    assert {draw(logits, uniform, top_k=4, temperature=100.0) for uniform in np.linspace(0, 0.999, 50)} == {1, 2, 3, 5}


@pytest.mark.parametrize("top_p", [0.01, 0.3, 0.99])
def test_a_flat_distribution_over_a_real_vocabulary(top_p: float) -> None:
    """Nothing can be pruned here, so the nucleus has to sort the whole (odd-sized) vocabulary."""
    logits = np.zeros(92_543, dtype=np.float32)
    kept = math.ceil(top_p * logits.size)
    assert draw(logits, ALMOST_ONE, top_p=top_p) == kept - 1
    assert draw(logits, 0.5, top_p=top_p) == kept // 2


def test_a_top_p_next_to_one_survives_rounding() -> None:
    """A sum taken in two orders differs in its last digits, so the nucleus may seem to need more tokens than exist."""
    short = 0
    for seed in range(40):
        logits = random_logits(seed, 331)
        assert draw(logits, ALMOST_ONE, top_p=ALMOST_ONE) > 300
        weights = np.exp(logits.astype(np.float64) - float(logits.max()))
        short += np.cumsum(np.sort(weights)[::-1])[-1] < weights.sum() * ALMOST_ONE
    assert short > 0, "the cases must include one where the sum falls short"


def test_extreme_logits_neither_overflow_nor_reach_the_impossible() -> None:
    most = float(np.finfo(np.float32).max)
    logits = np.array([-most, most, 0.0, -most], dtype=np.float32)
    for params in ({}, {"temperature": 1e-5}, {"top_p": 0.999, "min_p": 0.1}):
        assert {draw(logits, uniform, **params) for uniform in (0.0, 0.5, ALMOST_ONE)} == {1}


@pytest.mark.parametrize("params", FILTERS, ids=str)
def test_the_logits_are_left_alone(params: dict[str, Any]) -> None:
    logits = random_logits(3, 97)
    before = logits.copy()
    logits.flags.writeable = False
    draw(logits, 0.5, **params)
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize(("bad", "word"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_a_broken_model_is_named(bad: float, word: str) -> None:
    logits = np.zeros(7, dtype=np.float32)
    logits[5] = bad
    with pytest.raises(ArtifactError, match=rf"^the model produced {word} as the logit of token 5, .*compile it again"):
        sampler(7).load(aligned_copy(logits))


def test_a_generator_is_the_seed_alone() -> None:
    assert make_rng(42).random() == make_rng(42).random() != make_rng(43).random()
    assert make_rng(None).random() != make_rng(None).random()
    # The stream itself is part of the promise: a seed must mean the same text after an upgrade of NumPy.
    assert make_rng(0).random() == 0.6369616873214543


@pytest.mark.parametrize("k", [1, 2, 10, 96, 97, 98, 1000])
@pytest.mark.parametrize("levels", [1, 4, 1_000_000])
def test_top_ids_are_those_of_a_full_sort(k: int, levels: int) -> None:
    scores = np.random.default_rng(k).integers(0, levels, size=97).astype(np.float32)
    expected = sorted(range(97), key=lambda position: (-float(scores[position]), position))[:k]
    assert top_ids(scores, k).tolist() == sorted(expected)
