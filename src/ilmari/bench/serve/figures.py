"""What is to be said of many replies; the names are those of `vllm bench serve`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ilmari.bench.serve.reply import Reply
from ilmari.errors import RequestError

METRICS = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "itl": "inter-token latency",
    "e2el": "end-to-end latency",
}
GOALS = ("ttft", "tpot", "e2el")
"""Of a reply as a whole, so that a reply can meet them or not."""


def figures(
    replies: Sequence[Reply], seconds: float, percentiles: Sequence[float], goodput: Mapping[str, float]
) -> dict[str, Any]:
    """Figures of replies that took `seconds` from the first question to the last end.

    Times are in milliseconds: mean, median and percentiles, as NumPy interpolates them; None where there is nothing to
    measure. goodput: the most milliseconds of a good reply, by metric.
    """
    good = [reply for reply in replies if reply.error is None]
    measured = {
        "ttft": [reply.ttft for reply in good],
        "tpot": [reply.tpot for reply in good if reply.tpot is not None],
        "itl": [end - begin for reply in good for begin, end in reply.gaps],
        "e2el": [reply.latency for reply in good],
    }
    counted = [reply.input_tokens for reply in good if reply.input_tokens is not None]
    input_tokens = sum(counted) if counted else None
    output_tokens = sum(reply.tokens for reply in good)
    arrivals = sum(len(reply.arrivals) for reply in good)
    result: dict[str, Any] = {
        "duration": seconds,
        "completed": len(good),
        "failed": len(replies) - len(good),
        "total_input_tokens": input_tokens,
        "total_output_tokens": output_tokens,
        "request_throughput": len(good) / seconds,
        "output_throughput": output_tokens / seconds,
        "total_token_throughput": None if input_tokens is None else (input_tokens + output_tokens) / seconds,
        "tokens_per_arrival": output_tokens / arrivals if arrivals else None,
    }
    for name, values in measured.items():
        result |= distribution(name, values, percentiles)
    if goodput:
        result["request_goodput"] = sum(_meets(reply, goodput) for reply in good) / seconds
    result["errors"] = dict(Counter(reply.error for reply in replies if reply.error is not None).most_common())
    return result


def distribution(name: str, seconds: Sequence[float], percentiles: Sequence[float]) -> dict[str, float | None]:
    """Mean, median and percentiles of a metric, in milliseconds."""
    keys = [f"mean_{name}_ms", f"median_{name}_ms", *(f"p{percent:g}_{name}_ms" for percent in percentiles)]
    if not seconds:
        return dict.fromkeys(keys)
    milliseconds = 1e3 * np.asarray(seconds)
    values = [milliseconds.mean(), *np.percentile(milliseconds, [50, *percentiles])]
    return dict(zip(keys, map(float, values), strict=True))


def _meets(reply: Reply, goodput: Mapping[str, float]) -> bool:
    seconds = {"ttft": reply.ttft, "tpot": reply.tpot or 0.0, "e2el": reply.latency}
    return all(1e3 * seconds[name] <= most for name, most in goodput.items())


def parse_goodput(texts: Sequence[str]) -> dict[str, float]:
    """Targets from `ttft:200`, several with commas or spaces between.

    Raises:
        RequestError: one of them is none.
    """
    goals = {}
    for text in re.split(r"[,\s]+", ",".join(texts).strip(", ")) if texts else ():
        name, _, number = text.partition(":")
        if name not in GOALS or not re.fullmatch(r"\d+(\.\d*)?|\.\d+", number):
            raise RequestError(f"--goodput {text!r} is no target; expected METRIC:MILLISECONDS, of {', '.join(GOALS)}.")
        goals[name] = float(number)
    return goals
