"""A row of logits to the next token.

The order is vLLM's: temperature, min_p, top_k, top_p, then the draw. Each of the three keeps a head of one ranking,
from the most probable token down and the lowest id first of equals, so all that counts is how long the head is.

Passes over the whole vocabulary are compiled (`kernels/sampling.py`); what they leave to look at is a chunk of tokens,
with a small top_k a short list, and the tokens that share the logit at which a ranking is cut. Weights are float32, a
short list's and sums over more than a chunk float64, and a row's token depends on its own logits, parameters and
generator alone, so a seed gives the same text at any batch size.
"""

import numpy as np
import numpy.typing as npt

from ilmari.engine.ranking import Ranking
from ilmari.engine.sampling_params import SamplingParams
from ilmari.engine.shortlist import shortlist
from ilmari.errors import ArtifactError
from ilmari.kernels.library import KernelLibrary, aligned_zeros, tensor
from ilmari.kernels.sampling_chunks import CHUNK, chunks

NOT_FINITE = 0x7F800000  # the bits of float32 magnitudes from infinity on


def make_rng(seed: int | None) -> np.random.Generator:
    """The generator of one sequence; PCG64 by name, because NumPy may change its default. None: fresh entropy."""
    return np.random.Generator(np.random.PCG64(seed))


class Sampler:
    """Draws from one row of logits after the other.

    `logits`, float32 [vocab], is the row that `load` copied. It may be changed, to -inf for tokens that cannot be
    drawn; then `refresh` has to be called before `sample`.
    """

    def __init__(self, library: KernelLibrary, vocab_size: int) -> None:
        count = chunks(vocab_size)
        self._rows = aligned_zeros((count, CHUNK), np.float32)
        self.logits = self._rows.reshape(-1)[:vocab_size]
        self._peaks = aligned_zeros((count,), np.float32)
        self._magnitudes = aligned_zeros((count,), np.int32)
        self._tensors = {
            name: tensor(array)
            for name, array in (
                ("logits", self.logits),
                ("rows", self._rows),
                ("peaks", self._peaks),
                ("magnitudes", self._magnitudes),
            )
        }
        self._logit_peaks = library["logit_peaks"]
        self._ranking = Ranking(library, self._rows, vocab_size)

    def load(self, logits: npt.NDArray[np.float32]) -> None:
        """Take a row float32 [vocab], as kernels are given arrays.

        Raises:
            ArtifactError: a logit is not finite, which only broken weights or kernels produce.
        """
        self._pass(tensor(logits))
        if int(self._magnitudes.max()) >= NOT_FINITE:
            token_id = int(np.isfinite(logits).argmin())
            raise ArtifactError(
                f"the model produced {logits[token_id]} as the logit of token {token_id}, where only finite numbers "
                "can be sampled from; its weights or kernels are broken: compile it again from a sound checkpoint."
            )

    def refresh(self) -> None:
        """Take `logits` as they have become."""
        self._pass(self._tensors["logits"])

    def _pass(self, logits: object) -> None:
        self._logit_peaks(logits, self._tensors["rows"], self._tensors["peaks"], self._tensors["magnitudes"])

    def sample(self, params: SamplingParams, rng: np.random.Generator) -> int:
        """The next token id.

        A greedy request draws nothing. Any other takes one `rng.random()`, even where a single token is left, and
        inverts the cumulative probability of the kept tokens in ascending order of token id.
        """
        best = int(self._peaks.argmax())
        if params.greedy:
            return best * CHUNK + int(self._rows[best].argmax())
        greatest = float(self._peaks[best])
        if 0 < params.top_k <= len(self._peaks):
            return self._one_of_few(params, greatest, rng)
        least, last = self._ranking.cut(params, greatest)
        totals = self._ranking.totals
        # "right" steps over tokens whose weight underflowed to 0; random() < 1 keeps the chunk inside.
        sums = np.cumsum(totals.astype(np.float64))
        point = rng.random() * float(sums[-1])
        chunk = int(np.searchsorted(sums, point, side="right"))
        inside = self._kept(chunk, least, last)
        share = (point - (float(sums[chunk - 1]) if chunk else 0.0)) / float(totals[chunk])
        return chunk * CHUNK + _owner(inside, share)

    def _one_of_few(self, params: SamplingParams, greatest: float, rng: np.random.Generator) -> int:
        """A token of those that top_k keeps, by the same rules."""
        tokens = shortlist(self._rows, self._peaks, params.top_k)
        weights = np.exp((self.logits[tokens].astype(np.float64) - greatest) / params.temperature)
        length = int(np.count_nonzero(weights >= params.min_p))
        if params.top_p < 1:
            sums = np.cumsum(weights[:length])
            length = min(length, int(np.searchsorted(sums, params.top_p * sums[-1], side="left")) + 1)
        kept = np.argsort(tokens[:length])
        sums = np.cumsum(weights[kept])
        return int(tokens[kept[_owner(sums, rng.random())]])

    def _kept(self, chunk: int, least: float, last: int) -> npt.NDArray[np.float64]:
        """Cumulative weights of a chunk's tokens, those that are not kept without one."""
        logits, first = self._rows[chunk], chunk * CHUNK
        kept = logits > least
        if last >= first:
            kept[: last - first + 1] |= logits[: last - first + 1] == least
        return np.cumsum(np.where(kept, self._ranking.weights[chunk], 0).astype(np.float64))


def _owner(sums: npt.NDArray[np.float64], share: float) -> int:
    """Which of the weights with these cumulative sums lies at `share` of their total; never one that is 0."""
    place = int(np.searchsorted(sums, share * sums[-1], side="right"))
    return min(place, int(np.searchsorted(sums, sums[-1], side="left")))
