"""Where the head of a ranking ends that top_k, min_p and top_p keep."""

import math

import numpy as np
import numpy.typing as npt

from ilmari.engine.sampling_params import SamplingParams
from ilmari.kernels.library import KernelLibrary, aligned_zeros, tensor
from ilmari.kernels.sampling_chunks import BINS, PARTS

BINS_PER_E = 8  # bins in which weights fall by e
WIDEST = 2.0  # a temperature above this lays bins as this one does: logits would lie in too few


class Ranking:
    """One row's tokens from the most probable down, in bins: sorted are only those where a head may end."""

    def __init__(
        self,
        library: KernelLibrary,
        rows: npt.NDArray[np.float32],
        weights: npt.NDArray[np.float32],
        vocab_size: int,
    ) -> None:
        self._vocab_size = vocab_size
        self._logits, self._weights = rows.reshape(-1), weights.reshape(-1)
        self._bins = aligned_zeros(rows.shape, np.uint8)
        self._part_counts = aligned_zeros((PARTS, BINS), np.int32)
        self._part_sums = aligned_zeros((PARTS, BINS), np.float64)
        self._inputs = tensor(rows), tensor(weights)
        self._outputs = tuple(map(tensor, (self._bins, self._part_counts, self._part_sums)))
        self._weight_bins = library["weight_bins"]

    def cut(self, params: SamplingParams, greatest: float) -> tuple[float, int]:
        """Where the head ends that the parameters keep: its least logit, and the last token of those that have it."""
        per_unit = BINS_PER_E / min(params.temperature, WIDEST)
        self._weight_bins(*self._inputs, greatest, per_unit, *self._outputs)
        self._counts = np.concatenate([[0], np.cumsum(self._part_counts.sum(axis=0))])
        self._sums = np.concatenate([[0.0], np.cumsum(self._part_sums.sum(axis=0))])
        self._sorted: dict[int, npt.NDArray[np.intp]] = {}
        length = self._vocab_size
        if params.top_k > 0:
            length = min(length, params.top_k)
        if params.min_p > 0:
            reach = -math.log(params.min_p) * params.temperature * per_unit
            length = min(length, self._at_least(params.min_p, min(int(reach), BINS - 1)))
        if params.top_p < 1:
            length = min(length, self._reaching(params.top_p * self._weight(length)))
        if length == self._vocab_size:
            return -math.inf, self._vocab_size
        index = self._bin_of(length)
        token = int(self._bin(index)[length - self._counts[index] - 1])
        return float(self._logits[token]), token

    def _bin_of(self, length: int) -> int:
        """The bin in which a head of so many tokens ends."""
        return int(np.searchsorted(self._counts, length, side="left")) - 1

    def _bin(self, index: int) -> npt.NDArray[np.intp]:
        """The tokens of a bin, the most probable first."""
        if index not in self._sorted:
            tokens = np.flatnonzero(self._bins.reshape(-1) == index)
            self._sorted[index] = tokens[np.argsort(-self._logits[tokens], kind="stable")]
        return self._sorted[index]

    def _weight(self, length: int) -> float:
        """What a head of so many tokens weighs."""
        if length == self._vocab_size:
            return float(self._sums[-1])
        index = self._bin_of(length)
        inside = self._weights[self._bin(index)[: length - self._counts[index]]]
        return float(self._sums[index] + inside.sum(dtype=np.float64))

    def _at_least(self, weight: float, index: int) -> int:
        """Tokens that weigh at least so much; the last of them is in bin `index`, or none of that bin."""
        return int(self._counts[index] + np.count_nonzero(self._weights[self._bin(index)] >= weight))

    def _reaching(self, weight: float) -> int:
        """Tokens of the shortest head that weighs at least so much."""
        index = min(max(int(np.searchsorted(self._sums, weight, side="left")) - 1, 0), BINS - 1)
        inside = np.cumsum(self._weights[self._bin(index)], dtype=np.float64)
        needed = int(np.searchsorted(inside, weight - self._sums[index], side="left")) + 1
        return int(self._counts[index]) + min(
            needed, len(inside)
        )  # rounding may leave the sum short of a top_p next to 1
