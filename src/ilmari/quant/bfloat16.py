"""bfloat16 weights: float32's range in 16 bits, and what most checkpoints are published in."""

import numpy as np
from numpy.typing import NDArray

from ilmari.quant.weight import ScaledWeight


def bfloat16(weight: NDArray[np.float32]) -> ScaledWeight:
    """`weight` [n, k] as bfloat16, whose bits are the values (uint16), with a scale of 1.

    A bfloat16 checkpoint is kept exactly; float16 and float32 ones are rounded to 8 significant bits.
    """
    return ScaledWeight(to_bfloat16(weight), np.ones(len(weight), np.float32))


def to_bfloat16(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of finite numbers as bfloat16, rounded to nearest, halves to even."""
    bits = array.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16).astype(np.uint16)
