"""Measurements in rounds, in which those who are compared take turns, and what is said of many rounds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Measure = Callable[[int], dict[str, float]]
"""One measurement with a seed: figures by name."""
Cases = Mapping[str, Mapping[str, Measure]]
"""By what is asked, and by who is asked."""
Round = dict[str, dict[str, dict[str, float]]]

MORE_IS_BETTER = ("tok_s", "speedup", "same_text")
"""How such figures end; of others, seconds and what is lost, less is better."""


def run_rounds(cases: Cases, rounds: int) -> list[Round]:
    """Everybody does everything once in each round, and another one begins; a first round is discarded."""
    done = []
    for seed in range(rounds + 1):
        done.append({case: _turns(measures, seed) for case, measures in cases.items()})
        print(json.dumps(done[-1]), flush=True)
    return done[1:]


def _turns(measures: Mapping[str, Measure], seed: int) -> dict[str, dict[str, float]]:
    names = list(measures)
    first = seed % len(names)
    taken = {name: measures[name](seed) for name in names[first:] + names[:first]}
    return {name: taken[name] for name in names}


def summary(rounds: Sequence[Round]) -> dict[str, Any]:
    """Best, median and worst of every figure."""
    return {
        case: {
            name: {figure: _picks([each[case][name][figure] for each in rounds], figure) for figure in figures}
            for name, figures in measured.items()
        }
        for case, measured in rounds[0].items()
    }


def _picks(values: Sequence[float], figure: str) -> dict[str, float]:
    best, worst = (max, min) if figure.endswith(MORE_IS_BETTER) else (min, max)
    return {"best": best(values), "median": statistics.median(values), "worst": worst(values)}
