"""Where the time of steps goes, kernel by kernel."""

from __future__ import annotations

from collections import defaultdict
from functools import reduce
from operator import add
from typing import Any

from ilmari.bench.ceilings import Rates
from ilmari.bench.cost import Cost, Load
from ilmari.bench.kernel_cost import kernel_cost
from ilmari.bench.recorder import Call
from ilmari.bench.workload import Phase, Run, seconds
from ilmari.kernels.plan import Plan

Row = dict[str, Any]

OUTSIDE = "outside kernels"
"""Python between the calls, scheduling, laying out the batch, sampling."""


def profile(plan: Plan, runs: tuple[Run, ...], rates: Rates) -> dict[str, Any]:
    """`prefill` and `decode`, each an average step of the fastest of the recorded runs: its milliseconds and kernels.

    The ceilings are at `rates`, the best of the same rounds.
    """
    phases = {
        "prefill": min((run.prefill for run in runs), key=seconds),
        "decode": min((run.decode for run in runs), key=seconds),
    }
    return {
        name: {"step_ms": 1e3 * seconds(phase) / len(phase), "steps": len(phase), "kernels": _rows(plan, phase, rates)}
        for name, phase in phases.items()
    }


def _rows(plan: Plan, phase: Phase, rates: Rates) -> list[Row]:
    """One row for each kernel, the longest first, and one for the rest; all numbers are per step."""
    calls: dict[str, list[Call]] = defaultdict(list)
    costs: dict[str, list[Cost]] = defaultdict(list)
    for step in phase:
        for call in step.calls:
            calls[call.name].append(call)
            cost = kernel_cost(plan, call.name, load_of(call, step.load))
            if cost is not None:
                costs[call.name].append(cost)
    steps, total = len(phase), seconds(phase)
    spent = {name: sum(call.seconds for call in its_calls) for name, its_calls in calls.items()}
    spent[OUTSIDE] = total - sum(spent.values())
    rows: list[Row] = []
    for name, took in sorted(spent.items(), key=lambda item: (item[0] == OUTSIDE, -item[1])):
        row: Row = {"kernel": name, "calls": len(calls[name]) / steps, "ms": 1e3 * took / steps, "share": took / total}
        if name in costs:
            cost = reduce(add, costs[name])
            one_step = Cost(cost.bytes / steps, cost.macs / steps, cost.arithmetic)
            row |= one_step.reached(took / steps, rates)
        rows.append(row)
    return rows


def load_of(call: Call, load: Load) -> Load:
    """What a call in a step of `load` computes: all of it, or the tokens alone that get logits."""
    return load if call.rows == load.rows else load.of_outputs()
