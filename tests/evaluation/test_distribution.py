"""Expectations of models against sums in float64, for few tokens and many, far apart and nearly equal."""

import numpy as np
import numpy.typing as npt
import pytest

from ilmari.errors import ArtifactError
from ilmari.evaluation.distribution import Distributions

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

SHAPES = [(1, 1), (1, 7), (3, 333), (65, 1001)]


def logits_of(shape: tuple[int, int], seed: int, spread: float = 10) -> Float32:
    """Random ones, one of them far above the others in every second row."""
    logits = np.random.default_rng(seed).normal(0, spread, shape).astype(np.float32)
    logits[::2, shape[1] // 2] += 200
    return logits


def log_softmax(logits: Float32) -> Float64:
    scores = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    result: Float64 = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return result


@pytest.mark.parametrize("shape", SHAPES)
def test_logprobs_and_best(shape: tuple[int, int]) -> None:
    logits = logits_of(shape, 1)
    before = logits.copy()
    ids = np.random.default_rng(2).integers(shape[1], size=shape[0])
    found = Distributions(logits)
    want = log_softmax(logits)[np.arange(shape[0]), ids]
    assert found.logprobs(ids) == pytest.approx(want, rel=1e-6, abs=1e-6)
    assert found.best.tolist() == [max(range(shape[1]), key=row.__getitem__) for row in logits.tolist()]
    assert (logits == before).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("distance", [1e-3, 0.1, 5])
def test_divergence(shape: tuple[int, int], distance: float) -> None:
    first = logits_of(shape, 3)
    second = (first + np.random.default_rng(4).normal(0.1, distance, shape)).astype(np.float32)
    logs = log_softmax(first), log_softmax(second)
    want = (np.exp(logs[0]) * (logs[0] - logs[1])).sum(axis=1)
    found = Distributions(first).divergence(Distributions(second))
    assert found == pytest.approx(want, rel=1e-5, abs=1e-7)
    assert Distributions(first).divergence(Distributions(first)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_broken_logits(value: float) -> None:
    logits = logits_of((3, 7), 5)
    logits[1, 4] = value
    with pytest.raises(ArtifactError, match="not finite"):
        Distributions(logits)
