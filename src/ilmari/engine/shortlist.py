"""The few tokens that top_k leaves, found without ranking the others."""

import numpy as np
import numpy.typing as npt

from ilmari.kernels.sampling_chunks import CHUNK, LOWEST


def shortlist(rows: npt.NDArray[np.float32], peaks: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.intp]:
    """The `count` best tokens that can be drawn at all, the best first and the lowest id first of equals.

    rows: logits [chunks, CHUNK]; peaks [chunks]: the greatest of each. `count` is at most the number of chunks: so many
    of them have a token that reaches the count-th peak, and nothing below that is among the best.
    """
    least = np.partition(peaks, -count)[-count]
    chunks = np.flatnonzero(peaks >= least)
    logits = rows[chunks].reshape(-1)
    places = np.flatnonzero((logits >= least) & (logits > LOWEST))
    best = places[np.argsort(-logits[places], kind="stable")[:count]]
    return chunks[best // CHUNK] * CHUNK + best % CHUNK
