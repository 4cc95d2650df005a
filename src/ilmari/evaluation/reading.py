"""Reading a window of text with one model or several: what each expects at every token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ilmari.engine.llm import LLM
from ilmari.evaluation.distribution import Distributions

_ROWS = 64  # at a time, so that temporaries of a large vocabulary stay small


def read(llms: Sequence[LLM], window: Sequence[int]) -> Iterator[tuple[npt.NDArray[np.int64], list[Distributions]]]:
    """All tokens but the first, some at a time: their ids [rows], and what each model expected there, [rows, vocab].

    The models read the same tokens in one step, so of each no more than a step's logits are in memory.

    Raises:
        ArtifactError: logits that are not finite.
    """
    targets = np.array(window[1:], np.int64)
    done = 0
    for pieces in zip(*(llm.engine.stream_logits(window) for llm in llms), strict=True):
        rows = min(len(pieces[0]), len(targets) - done)  # what follows the last token is not known
        for start in range(0, rows, _ROWS):
            stop = min(start + _ROWS, rows)
            yield targets[done + start : done + stop], [Distributions(logits[start:stop]) for logits in pieces]
        done += rows
