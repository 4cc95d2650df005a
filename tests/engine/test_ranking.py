"""Where rankings end, against sorted rows in float64: which tokens are kept, to the last one, and what they weigh."""

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sampling_kernels import sampling_kernels

from ilmari.engine.ranking import Ranking
from ilmari.engine.sampling_params import SamplingParams
from ilmari.kernels.library import aligned_zeros
from ilmari.kernels.sampling_chunks import CHUNK, LOWEST, chunks

Row = npt.NDArray[np.float32]

ROUNDING = 1e-6  # of a sum of float32 weights
FAINTEST = 1e-37  # below it a token has no weight: it is neither missed nor drawn
ROWS = {
    "flat": lambda normal: 0.01 * normal,
    "usual": lambda normal: 2 * normal,
    "many equals": lambda normal: np.round(normal),
    "all equal": lambda normal: np.full_like(normal, 3.3),
    "peaked": lambda normal: np.where(normal > normal.max() - 0.01, 9, -4) + normal,
    "few can be drawn": lambda normal: np.where(normal > 1, normal, -np.inf),
    "next to zero": lambda normal: normal * 1e-38,
    "far from zero": lambda normal: 3e4 + normal,
}


@cache
def ranking(vocab: int) -> tuple[Row, Ranking]:
    """The rows that it ranks, and the ranking."""
    rows = aligned_zeros((chunks(vocab), CHUNK), np.float32)
    rows.fill(LOWEST)
    return rows, Ranking(sampling_kernels(vocab), rows, vocab)


def kept_tokens(logits: Row, params: SamplingParams) -> npt.NDArray[np.intp]:
    """Tokens that are kept; the totals must be theirs."""
    rows, ranked = ranking(logits.size)
    rows.reshape(-1)[: logits.size] = logits
    least, last = ranked.cut(params, float(logits.max()))
    ids = np.arange(rows.size).reshape(rows.shape)
    kept = (rows > least) | ((rows == least) & (ids <= last))
    totals = np.where(kept, ranked.weights, 0).sum(axis=1, dtype=np.float64)
    np.testing.assert_allclose(ranked.totals, totals, rtol=ROUNDING)
    return np.flatnonzero(kept.reshape(-1)[: logits.size])


def check(logits: Row, params: SamplingParams) -> int:
    """The tokens that are kept must be a head of the sorted row, as long as it has to be; returns its length."""
    exact = (logits.astype(np.float64) - float(logits.max())) / params.temperature
    order = np.lexsort((np.arange(logits.size), -logits))
    weights = np.exp(np.maximum(exact[order], -1000))
    head = exact[order] >= np.log(max(params.min_p, FAINTEST))
    if params.top_k > 0:
        head[params.top_k :] = False
    sums = np.cumsum(weights[head])
    kept = kept_tokens(logits, params)
    kept = kept[exact[kept] >= np.log(FAINTEST)]
    np.testing.assert_array_equal(kept, np.sort(order[: len(kept)]))
    assert 1 <= len(kept) <= len(sums)
    if params.top_p == 1:
        assert len(kept) == len(sums)
    else:
        target = params.top_p * sums[-1]
        assert sums[len(kept) - 1] >= target * (1 - ROUNDING)
        assert len(kept) == 1 or sums[len(kept) - 2] < target * (1 + ROUNDING)
    return len(kept)


@pytest.mark.parametrize("kind", ROWS)
@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    vocab=st.sampled_from([1, 2, 97, 1003]),
    temperature=st.sampled_from([1e-5, 0.2, 0.8, 1.0, 3.0, 100.0]),
    min_p=st.sampled_from([0.0, 0.0, 0.001, 0.05, 0.7, 1.0]),
    top_k=st.sampled_from([0, 0, 1, 5, 300, 1002, 1003, 5000]),
    top_p=st.sampled_from([1.0, 5e-324, 0.1, 0.5, 0.8, 0.95, 0.999, 1 - 2**-53]) | st.floats(0.01, 1.0),
)
@example(seed=0, vocab=1003, temperature=1.0, min_p=0.05, top_k=300, top_p=0.8)
def test_the_tokens_kept(
    kind: str, seed: int, vocab: int, temperature: float, min_p: float, top_k: int, top_p: float
) -> None:
    logits = ROWS[kind](np.random.default_rng(seed).standard_normal(vocab)).astype(np.float32)
    logits[0] = max(logits[0], -1.0)  # one at least can be drawn
    check(logits, SamplingParams(temperature=temperature, min_p=min_p, top_k=top_k, top_p=top_p))


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_a_real_vocabulary(spread: float) -> None:
    logits = (spread * np.random.default_rng(1).standard_normal(92_543)).astype(np.float32)
    lengths = {
        check(logits, SamplingParams(temperature=temperature, top_p=top_p, top_k=top_k))
        for temperature in (0.7, 1.3)
        for top_p in (0.2, 0.8, 0.95)
        for top_k in (0, 1000, 30_000)
    }
    assert len(lengths) > 9


@pytest.mark.parametrize("length", [1, 5, 256, 257, 700, 1003])
def test_to_the_last_token(length: int) -> None:
    """Each head that ends among equals, or between them, can be had with a top_p in the middle of its last token."""
    logits = np.random.default_rng(length).integers(-3, 3, 1003).astype(np.float32) / 2
    sums = np.cumsum(np.exp(np.sort(logits.astype(np.float64))[::-1]))
    middle = sums[length - 1] - np.exp(np.sort(logits)[::-1][length - 1]) / 2
    assert check(logits, SamplingParams(top_p=float(middle / sums[-1]))) == length
    assert check(logits, SamplingParams(top_k=length)) == length
