"""Round to nearest: the simplest weight quantization."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 127


@dataclass(frozen=True)
class QuantizedWeight:
    """weight ~ values * scale[:, None]; values int8 [n, k] in -127..127, scale float32 [n]."""

    values: NDArray[np.int8]
    scale: NDArray[np.float32]


def round_to_nearest(weight: NDArray[np.float32]) -> QuantizedWeight:
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
    return QuantizedWeight(scaled.astype(np.int8), scale)
