"""How probable the model itself found a token and its rivals."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ilmari.engine.top_ids import top_ids


@dataclass(frozen=True)
class TokenLogprob:
    """One token: the natural logarithm of its probability, and its place from 1 (the lowest id first of equals)."""

    token_id: int
    logprob: float
    rank: int


def top_logprobs(logits: npt.NDArray[np.float32], token_id: int, k: int) -> list[TokenLogprob]:
    """The `k` most probable tokens in descending order, after `token_id` itself where it is not among them.

    As vLLM does by default, these are of the model's own distribution, log_softmax(logits), before penalties,
    temperature and filters. So the list has min(k, vocab) entries or one more, and `k` = 0 gives the token alone.

    Args:
        logits: float32 [vocab], all finite, left unchanged; the sum of exponentials is in float64.
        token_id: the token that was sampled.
        k: 0 or more.
    """
    scores = logits.astype(np.float64)
    scores -= scores.max()
    log_total = np.log(np.exp(scores).sum())
    best_ids = top_ids(scores, k).tolist() if k else []
    best_ids.sort(key=lambda best_id: (-scores[best_id], best_id))
    ranked = [
        TokenLogprob(best_id, float(scores[best_id] - log_total), rank)
        for rank, best_id in enumerate(best_ids, start=1)
    ]
    if any(entry.token_id == token_id for entry in ranked):
        return ranked
    score = scores[token_id]
    rank = 1 + np.count_nonzero(scores > score) + np.count_nonzero(scores[:token_id] == score)
    return [TokenLogprob(token_id, float(score - log_total), int(rank)), *ranked]
