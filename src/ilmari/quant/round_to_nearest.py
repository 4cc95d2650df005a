"""Round to nearest: the simplest weight quantization."""

import numpy as np
from numpy.typing import NDArray

from ilmari.quant.weight import ScaledWeight

LEVELS = 127


def round_to_nearest(weight: NDArray[np.float32]) -> ScaledWeight:
    """Symmetric int8 per output channel: scale = max |w| / 127, values = round(w / scale), halves to even.

    `weight` is float32 [n, k]. A row of zeros gets scale 0.
    """
    largest = np.maximum(weight.max(axis=1), -weight.min(axis=1))
    scale = largest / np.float32(LEVELS)
    factor = np.divide(np.float32(LEVELS), largest, out=np.zeros_like(largest), where=largest > 0)
    scaled = weight * factor[:, None]
    np.rint(scaled, out=scaled)
    # A subnormal row's factor is infinite or too coarse; such a row is zero for every purpose.
    np.clip(scaled, -LEVELS, LEVELS, out=scaled)
    return ScaledWeight(scaled.astype(np.int8), scale)
