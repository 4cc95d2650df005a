"""A weight in fewer bits."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ScaledWeight:
    """weight ~ values * scale[:, None]; values [n, k] in a small dtype, scale float32 [n], one per output channel."""

    values: NDArray[Any]
    scale: NDArray[np.float32]

    def dequantized(self) -> NDArray[np.float32]:
        """What the numbers stand for, [n, k], where `values` has a type that NumPy knows."""
        weight: NDArray[np.float32] = self.values * self.scale[:, None]
        return weight
