"""Whole logits of the pieces that steps make."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def in_one(pieces: Iterator[NDArray[np.float32]], rows: int) -> NDArray[np.float32]:
    """Logits float32 [rows, vocab] of pieces float32 [.., vocab] that have so many rows together."""
    first = next(pieces)  # checks the tokens before memory is taken for their logits
    result = np.empty((rows, first.shape[1]), np.float32)
    done = 0
    for piece in itertools.chain((first,), pieces):
        result[done : done + len(piece)] = piece
        done += len(piece)
    return result
