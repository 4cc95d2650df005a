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
            name: {figure: _picks(rounds, case, name, figure) for figure in figures} for name, figures in who.items()
        }
        for case, who in rounds[0].items()
    }


def _picks(rounds: Sequence[Round], case: str, name: str, figure: str) -> dict[str, float]:
    values = [each[case][name][figure] for each in rounds]
    worst, *_, best = sorted(values * 2, reverse=not figure.endswith(MORE_IS_BETTER))
    return {"best": best, "median": statistics.median(values), "worst": worst}
