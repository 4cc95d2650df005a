"""Logits to the next token.

The order is vLLM's: temperature, min_p, top_k, top_p, then the draw. min_p and top_k each keep a
head of the same ranking, so the shorter head is the outcome whichever comes first; top_k goes first here, because
then the exponentials are taken of k tokens instead of the whole vocabulary.

Rows of a batch know nothing of each other: a row's token depends on its own logits, history and generator alone, so
a seed gives the same text at any batch size.
"""

import numpy as np
import numpy.typing as npt

from ilmari.engine.sampling_params import SamplingParams
from ilmari.errors import ArtifactError


def make_rng(seed: int | None) -> np.random.Generator:
    """The generator of one sequence; PCG64 by name, because NumPy may change its default. None: fresh entropy."""
    return np.random.Generator(np.random.PCG64(seed))


def sample(
    logits: npt.NDArray[np.float32],
    params: SamplingParams,
    rng: np.random.Generator,
) -> int:
    """The next token id of one sequence.

    A greedy request draws nothing. Any other takes one `rng.random()`, even where a single token is left, and inverts
    the cumulative probability of the kept tokens in ascending order of token id, in float64.

    Args:
        logits: float32 [vocab], left unchanged; -inf is a token that cannot be drawn.
        params: checked parameters.
        rng: the sequence's own generator.
    """
    if params.greedy:
        return int(logits.argmax())
    scores = logits.astype(np.float64)
    if params.top_k > 0:
        ids = top_ids(scores, params.top_k)
        scores = scores[ids]
    else:
        ids = np.arange(scores.size)
    weights = _weights(scores, params.temperature)
    ids, weights = _above_min_p(ids, weights, params.min_p)
    ids, weights = _nucleus(ids, weights, params.top_p)
    cumulative = np.cumsum(weights, out=weights)
    # "right" steps over tokens whose weight underflowed to 0; random() < 1 keeps the index inside.
    return int(ids[np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")])


def top_ids(scores: npt.NDArray[np.floating], k: int) -> npt.NDArray[np.intp]:
    """The positions, ascending, of the `k` (>= 1) greatest of `scores` [n]; the lowest position first of equals.

    min(k, n) positions. The scores are cut into at least k groups: k groups have a greatest score that is not below
    the k-th of those, so the k-th score of all is not below it either. Few scores pass that mark to be partitioned.
    """
    if k >= scores.size:
        return np.arange(scores.size)
    height = max(1, scores.size // (4 * k))
    groups = scores[: scores.size - scores.size % height].reshape(height, -1)
    mark = _kth_greatest(groups.max(axis=0), k)
    return _head(scores, _kth_greatest(scores[scores >= mark], k), k)


def _kth_greatest(scores: npt.NDArray[np.floating], k: int) -> float:
    return float(np.partition(scores, -k)[-k])


def _head(scores: npt.NDArray[np.floating], least: float, count: int) -> npt.NDArray[np.intp]:
    """The positions of the `count` greatest scores, the smallest of which is `least`; late equals of it are left."""
    kept = np.flatnonzero(scores >= least)
    equals = np.flatnonzero(scores[kept] == least)
    surplus = kept.size - count
    return np.delete(kept, equals[equals.size - surplus :])


def check_finite(logits: npt.NDArray[np.float32]) -> None:
    """
    Raises:
        ArtifactError: a logit is not finite, which only broken weights or kernels produce.
    """
    finite = np.isfinite(logits)
    if not finite.all():
        token_id = int(finite.argmin())
        raise ArtifactError(
            f"the model produced {logits[token_id]} as the logit of token {token_id}, where only finite numbers can "
            "be sampled from; its weights or kernels are broken: compile it again from a sound checkpoint."
        )


def _weights(scores: npt.NDArray[np.float64], temperature: float) -> npt.NDArray[np.float64]:
    """Probabilities relative to the best token, whose weight is 1; written over `scores`.

    In place, because fresh pages for vocabulary-sized arrays cost several times the arithmetic.
    """
    scores -= scores.max()
    scores /= temperature
    return np.exp(scores, out=scores)


def _above_min_p(
    ids: npt.NDArray[np.intp], weights: npt.NDArray[np.float64], min_p: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Tokens at least `min_p` as probable as the best, whose weight is 1."""
    if min_p == 0.0:
        return ids, weights
    kept = np.flatnonzero(weights >= min_p)
    return ids[kept], weights[kept]


def _nucleus(
    ids: npt.NDArray[np.intp], weights: npt.NDArray[np.float64], top_p: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """The tokens that, from the most probable down, are needed to reach `top_p`; the lowest id first of equals.

    Let Z be the sum of n weights. All tokens no heavier than some w < (1 - top_p) Z / n weigh less than
    (1 - top_p) Z together, so top_p is reached before the first of them: only heavier tokens need sorting.
    """
    if top_p == 1.0:
        return ids, weights
    total = weights.sum()
    heavy = np.sort(weights[weights >= (1.0 - top_p) * total / weights.size])[::-1]
    reached = int(np.searchsorted(np.cumsum(heavy), top_p * total, side="left"))
    needed = min(reached + 1, heavy.size)  # rounding may leave the sum short of a top_p next to 1
    kept = _head(weights, heavy[needed - 1], needed)
    return ids[kept], weights[kept]
