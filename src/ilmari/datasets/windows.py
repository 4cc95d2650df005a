"""Two ways to draw windows of tokens from texts: out of long documents, or packed from short samples."""

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ilmari.errors import DataError

Window = npt.NDArray[np.int32]
"""Token ids, int32 [seqlen]."""

Encode = Callable[[str], list[int]]
Sample = TypeVar("Sample")

_MARKS = 2
"""Tokens that stand for no byte of a text: the beginning of the sequence, and the space before the first word."""


@dataclass(frozen=True)
class Draw:
    """What is wanted of the set at `path`: `count` windows of `length` tokens, drawn with `rng`.

    `progress(done)` says how far that is, while `done` is less than `count`.
    """

    path: Path
    count: int
    length: int
    rng: np.random.Generator
    progress: Callable[[int], None]


def long_windows(texts: Iterable[str], encode: Encode, draw: Draw) -> list[Window]:
    """A random window from each of `count` random texts among those that are long enough; shorter ones are skipped.

    The texts are streamed, and only the windows kept so far are in memory. Every text gets a random key, and the
    smallest keys are kept: a sample without replacement (Knuth, The Art of Computer Programming 2, 3.4.2). Only a text
    whose key may be kept is tokenized, and none that has fewer bytes than a window has tokens.

    Raises:
        DataError: fewer than `count` texts have `length` tokens.
    """
    kept: list[tuple[float, int, Window]] = []  # a heap whose first is the largest key, negated
    seen = 0
    for seen, text in enumerate(texts, 1):
        key, place = draw.rng.random(2)
        full = len(kept) == draw.count
        if (full and -key < kept[0][0]) or len(text.encode()) + _MARKS < draw.length:
            continue
        tokens = encode(text)
        if len(tokens) < draw.length:
            continue
        start = int(place * (len(tokens) - draw.length + 1))
        window = np.array(tokens[start : start + draw.length], dtype=np.int32)
        (heapq.heapreplace if full else heapq.heappush)(kept, (-key, seen, window))
    if len(kept) < draw.count:
        raise DataError(
            f"{draw.path} has {len(kept):,} documents of {draw.length} tokens or more among {seen:,}, and "
            f"{draw.count:,} are asked for; lower `dataset.nsamples` or `dataset.seqlen`, or give more documents."
        )
    return [window for _, _, window in sorted(kept, reverse=True)]


def packed_windows(samples: Sequence[Sample], encode: Callable[[Sample], list[int]], draw: Draw) -> list[Window]:
    """Windows full of shuffled samples, one behind the other; each window starts with a sample, its last one is cut.

    Raises:
        DataError: the samples do not fill `count` windows.
    """
    windows: list[Window] = []
    tokens: list[int] = []
    for index in draw.rng.permutation(len(samples)):
        tokens += encode(samples[index])
        if len(tokens) >= draw.length:
            windows.append(np.array(tokens[: draw.length], dtype=np.int32))
            if len(windows) == draw.count:
                return windows
            draw.progress(len(windows))
            tokens = []
    raise DataError(
        f"{draw.path} has {len(samples):,} samples, which fill {len(windows):,} windows of {draw.length} tokens, and "
        f"{draw.count:,} are asked for; lower `dataset.nsamples` or `dataset.seqlen`, or give more samples."
    )
