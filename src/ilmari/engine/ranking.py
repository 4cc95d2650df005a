"""Where the head of a ranking ends that min_p, top_k and top_p keep."""

import math

import numpy as np
import numpy.typing as npt

from ilmari.engine.sampling_params import SamplingParams
from ilmari.kernels.library import KernelLibrary, aligned_copy, aligned_zeros, tensor
from ilmari.kernels.sampling_chunks import STEPS

FAINT = 88.0  # e**-88 is 0 as a weight
WHOLE = -math.inf, -1


class Ranking:
    """One row's tokens from the most probable down, and what they weigh.

    A head of it ends with a logit and a token: it has the tokens above this logit and, of those with this logit, the
    ones up to this token. weights, float32 [chunks, CHUNK]: the whole row's. totals, float32 [chunks]: the sums of
    those in the head that is kept.
    """

    def __init__(self, library: KernelLibrary, rows: npt.NDArray[np.float32], vocab_size: int) -> None:
        self._rows, self._vocab_size = rows, vocab_size
        self.weights = aligned_zeros(rows.shape, np.float32)
        self.totals = aligned_zeros((len(rows),), np.float32)
        self._sums = aligned_zeros((STEPS + 2, len(rows)), np.float32)
        self._bounds = aligned_zeros((STEPS + 2,), np.float32)
        self._beyond = aligned_zeros((STEPS + 2,), np.float64)
        self._logits, self._weights, self._totals = map(tensor, (rows, self.weights, self.totals))
        self._ones = tensor(aligned_copy(np.ones_like(rows)))
        self._search = tuple(map(tensor, (self._sums, self._bounds, self._beyond)))
        self._logit_weights = library["logit_weights"]
        self._cut_bounds = library["cut_bounds"]
        self._kept_weights = library["kept_weights"]

    def cut(self, params: SamplingParams, greatest: float) -> tuple[float, int]:
        """Weigh the row, whose greatest logit is given, and keep what the parameters say: where it ends."""
        temperature, factor = params.temperature, 1 / params.temperature
        self._logit_weights(self._logits, greatest, factor, self._weights, self._totals)
        end = WHOLE
        if params.min_p > 0:
            end = _below(greatest + temperature * math.log(params.min_p)), -1
        if 0 < params.top_k < self._vocab_size:
            faint = greatest - FAINT * temperature
            end = _shorter(end, self._reaching(params.top_k, self._ones, greatest, 0.0, faint))
        if end != WHOLE:
            self._keep(end)
        if params.top_p < 1:
            total = float(self.totals.sum(dtype=np.float64))
            # If all tokens had this logit, those that are left out would weigh as much as top_p leaves out.
            least = greatest + temperature * math.log((1 - params.top_p) * total / self._vocab_size)
            end = _shorter(end, self._reaching(params.top_p * total, self._weights, greatest, factor, least))
            if end == (self._bounds[0], -1) and self._beyond[0] < math.inf:
                self.totals[:] = self._sums[0]
            else:
                self._keep(end)
        return end

    def _keep(self, end: tuple[float, int]) -> None:
        self._kept_weights(self._logits, self._weights, *end, self._totals)

    def _reaching(
        self, target: float, values: object, greatest: float, factor: float, least: float
    ) -> tuple[float, int]:
        """Where the shortest head ends that has a sum of `target` of the values, exp((logit - greatest) * factor).

        It is not looked for below `least`.
        """
        bounds, beyond = self._bounds, self._beyond
        bounds[0], bounds[-1], beyond[0], beyond[-1] = _below(least), greatest, math.inf, 0
        self._cut_bounds(self._logits, values, greatest, factor, target, *self._search)
        low, high, more, less = float(bounds[0]), float(bounds[-1]), float(beyond[0]), float(beyond[-1])
        value = math.exp((high - greatest) * factor)
        if more - less < 1.5 * value:  # a single token
            return low, -1
        equals = np.flatnonzero(self._rows == high)
        needed = math.ceil((target - less) / value)
        return (high, int(equals[needed - 1])) if needed < len(equals) else (low, -1)


def _shorter(end: tuple[float, int], other: tuple[float, int]) -> tuple[float, int]:
    """Of two heads the one that has fewer tokens."""
    return max(end, other, key=lambda each: (each[0], -each[1]))


def _below(number: float) -> float:
    """The greatest float32 that is less."""
    nearest = np.float32(number)
    return float(nearest if float(nearest) < number else np.nextafter(nearest, np.float32(-np.inf)))
