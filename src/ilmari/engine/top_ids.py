"""The greatest of many numbers."""

import numpy as np
import numpy.typing as npt


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
