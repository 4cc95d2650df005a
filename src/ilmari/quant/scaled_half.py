"""float16 weights whose range does not matter."""

import numpy as np
from numpy.typing import NDArray

from ilmari.quant.weight import ScaledWeight

TOP_EXPONENT = 15  # the largest magnitude of a row lies in [2**14, 2**15), safely below float16's 65504


def scaled_half(weight: NDArray[np.float32]) -> ScaledWeight:
    """Each row of `weight` [n, k], divided by a power of two, in float16.

    With its largest value near float16's top, a row of a float16 checkpoint is kept exactly, subnormals included, and
    so is one of a bfloat16 checkpoint, down to 2**-29 of its largest value, whatever its range.
    """
    largest = np.maximum(weight.max(axis=1), -weight.min(axis=1))
    _, exponent = np.frexp(largest)  # largest = f * 2**exponent, 1/2 <= f < 1
    shift = np.where(largest > 0, exponent - TOP_EXPONENT, 0)
    return ScaledWeight(np.ldexp(weight, -shift[:, None]).astype(np.float16), np.ldexp(np.float32(1), shift))
