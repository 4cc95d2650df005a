"""What a linear layer's inputs have in common: X^T X, summed over batches."""

import numpy as np
from numpy.typing import NDArray


class Hessian:
    """The second derivative of a linear layer's squared output error, up to a factor that does not matter."""

    def __init__(self, inputs: int) -> None:
        self.matrix: NDArray[np.float64] = np.zeros((inputs, inputs))

    def add(self, x: NDArray[np.float32]) -> None:
        """Rows of inputs, [rows, inputs]: a batch is multiplied in float32, and batches are summed in float64."""
        self.matrix += x.T @ x

    @property
    def finite(self) -> bool:
        """Whether all inputs were finite, and small enough to be squared."""
        return bool(np.isfinite(np.diagonal(self.matrix)).all())
