"""The tokens that a row of logits may give: a few of the best, wherever those alone decide."""

from __future__ import annotations

from collections.abc import Sequence as Many

import numpy as np
from numpy.typing import NDArray

from ilmari.engine.logit_rules import LogitRules
from ilmari.engine.sampling_params import SamplingParams
from ilmari.engine.top_ids import top_ids
from ilmari.kernels.sampling_chunks import LOWEST

ALL = 0
"""In place of a number of tokens: no number is enough."""

CANDIDATE = np.dtype([("token", np.int32), ("logit", np.float32)])


def deciding(params: SamplingParams) -> int:
    """How many of a row's best tokens decide what is drawn from it, or `ALL`.

    A greedy draw looks at the best, and one with top_k at no more than those: min_p and top_p cut shorter what it
    leaves. Without top_k they may leave any number; rules may change any logit; and log-probabilities are of the whole.
    """
    if LogitRules.needed(params) or params.logprobs is not None or params.prompt_logprobs is not None:
        return ALL
    return 1 if params.greedy else max(params.top_k, ALL)


def best(logits: NDArray[np.float32], tokens: range, count: int, nothing: int) -> NDArray[np.void]:
    """The best `count` of each row's `tokens`, as `CANDIDATE` [rows, count], the lowest id first of equals.

    logits: float32 [rows, len(tokens)] of these tokens. A logit that is not finite is always among the best, so that it
    is noticed. Where there are fewer tokens, the others are `nothing`, with the logit of what is no token.
    """
    result = np.full((len(logits), count), np.array((nothing, LOWEST), CANDIDATE))
    for row, entries in zip(logits, result, strict=True):
        ids = top_ids(np.where(np.isfinite(row), row, np.inf), count)
        entries["token"][: len(ids)] = tokens.start + ids
        entries["logit"][: len(ids)] = row[ids]
    return result


def lay_out(candidates: Many[NDArray[np.void]], columns: int) -> NDArray[np.float32]:
    """Rows float32 [rows, columns] of which the candidates of all ranks have their logits, and other tokens `LOWEST`.

    What is drawn from them is, to the last bit, what would be drawn from whole rows: the weight of `LOWEST` is 0.
    """
    rows = np.full((len(candidates[0]), columns), LOWEST, np.float32)
    for each in candidates:
        np.put_along_axis(rows, each["token"], each["logit"], axis=1)
    return rows
