"""What a model expects next: the distributions over the vocabulary after several tokens."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ilmari.errors import ArtifactError

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


class Distributions:
    """softmax(logits), row by row. Exponentials are float32, everything summed from them float64."""

    def __init__(self, logits: Float32) -> None:
        """Take logits [rows, vocab], which are kept and not changed.

        Raises:
            ArtifactError: one is not finite, which only broken weights or kernels produce.
        """
        top = logits.max(axis=1, keepdims=True)
        if not (np.isfinite(top).all() and np.isfinite(logits.min())):
            raise ArtifactError(
                "the model produced logits that are not finite; its weights or kernels are broken: compile it again "
                "from a sound checkpoint."
            )
        self._logits = logits
        self._exps = logits - top
        np.exp(self._exps, out=self._exps)
        self._totals: Float64 = self._exps.sum(axis=1, dtype=np.float64)
        self._log_totals: Float64 = np.log(self._totals) + top[:, 0]

    def logprobs(self, token_ids: npt.NDArray[np.int64]) -> Float64:
        """Natural logarithm of the probability of token_ids[i] in row i, [rows]."""
        chosen: Float64 = self._logits[np.arange(len(self._logits)), token_ids] - self._log_totals
        return chosen

    @property
    def best(self) -> npt.NDArray[np.intp]:
        """The most probable token of each row, the lowest id of equals, [rows]."""
        best: npt.NDArray[np.intp] = self._logits.argmax(axis=1)
        return best

    def divergence(self, other: Distributions) -> Float64:
        """Kullback-Leibler divergence KL(self || other) = sum p log(p / q) of each row in nats, [rows].

        Exact to some 1e-7 nats, as differences are taken between logits and not between logarithms of probabilities.
        """
        products = self._logits - other._logits
        products *= self._exps
        mean: Float64 = products.sum(axis=1, dtype=np.float64) / self._totals
        return mean - self._log_totals + other._log_totals
