"""Measures ilmari beside its peers, in rounds in which the engines take turns between measurements of the ceilings.

    python -m benchmarks.peers.compare [--rounds 10] [--stage int8] [--artifact w8a8=DIR] [--output FILE]

Run it from the repository's root, on a quiet machine. Judge by the ratio of the bests: noise on a shared machine only
ever slows things down, and comes in bursts.
"""

import argparse
import dataclasses
import datetime
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from benchmarks.peers import cache
from benchmarks.peers.bounds import bounds
from benchmarks.peers.machine import Machine, cpu_name
from benchmarks.peers.stages import OURS, STAGES, Engine, Setup, Stage

RESULTS = Path(__file__).parents[1] / "results" / "peers_1_8b.json"
THREADS = 2
PICKS: dict[str, Callable[[Sequence[float]], float]] = {"best": max, "median": statistics.median}

Round = dict[str, Any]
"""`ceilings`: samples before and after; `speeds`: tokens a second by figure and engine."""


def run_round(stage: Stage, engines: Mapping[str, Engine], machine: Machine, seed: int) -> Round:
    """Each engine does everything once; another one begins in the next round."""
    before = machine.rates()
    names = list(engines)
    turns = [dataclasses.replace(workload, seed=seed) for workload in stage.workloads]
    speeds = {figure: dict.fromkeys(names, 0.0) for turn in turns for figure in turn.figures}
    for turn in turns:
        for name in names[seed % len(names) :] + names[: seed % len(names)]:
            speed = engines[name].measure(turn)
            for figure, field in turn.figures.items():
                speeds[figure][name] = getattr(speed, field)
    return {"ceilings": [before, machine.rates()], "speeds": speeds}


def summary(stage: Stage, rounds: Sequence[Round]) -> dict[str, Any]:
    """Best and median of everything, what the best ceilings allow, and ilmari's best and median over each peer's."""
    samples = [sample for each in rounds for sample in each["ceilings"]]
    ceilings = {name: {rate: pick([s[rate] for s in samples]) for rate in samples[0]} for name, pick in PICKS.items()}
    figures = {
        figure: {
            engine: {name: pick([each["speeds"][figure][engine] for each in rounds]) for name, pick in PICKS.items()}
            for engine in engines
        }
        for figure, engines in rounds[0]["speeds"].items()
    }
    return {
        "ceilings": ceilings,
        "bounds": {
            figure: bound
            for workload in stage.workloads
            for figure, bound in bounds(workload, stage.weight_bytes, ceilings["best"]).items()
        },
        "figures": figures,
        "ratios": {figure: _ratios(engines) for figure, engines in figures.items()},
    }


def _ratios(engines: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, dict[str, float]]]:
    ours = [name for name in engines if name.startswith(OURS)]
    return {
        our: {
            peer: {pick: engines[our][pick] / engines[peer][pick] for pick in PICKS}
            for peer in engines
            if peer not in ours
        }
        for our in ours
    }


def table(result: Mapping[str, Any]) -> str:
    """Best and median of each engine, and the bounds, one line a figure and engine."""
    lines = ["| | tok/s, best | median |", "|---|---|---|"]
    for figure, engines in result["figures"].items():
        rows = {f"{figure}: {name}": (speeds["best"], speeds["median"]) for name, speeds in engines.items()}
        lines += [f"| {name} | {best:.1f} | {median:.1f} |" for name, (best, median) in rows.items()]
        bound = result["bounds"][figure]
        lines += [f"| {figure}: at most, {name} | {value:.1f} | |" for name, value in bound.items()]
    return "\n".join(lines)


def compare(stage: Stage, setup: Setup, rounds: int) -> dict[str, Any]:
    """Load the stage's engines, discard one round, and measure."""
    with ExitStack() as stack:
        starts = stage.contestants(setup.artifacts)
        engines = {name: stack.enter_context(closing(start(setup))) for name, start in starts.items()}
        machine = Machine(setup.threads)
        run_round(stage, engines, machine, seed=0)
        done = []
        for number in range(1, rounds + 1):
            done.append(run_round(stage, engines, machine, seed=number))
            print(json.dumps(done[-1]), flush=True)
        versions = {key: value for engine in engines.values() for key, value in engine.versions.items()}
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_name(),
        "threads": setup.threads,
        "versions": versions,
        "workloads": [dataclasses.asdict(workload) for workload in stage.workloads],
        **summary(stage, done),
        "rounds": done,
    }


def named_artifact(text: str) -> tuple[str, Path]:
    """What `--artifact SCHEME=DIR` says."""
    scheme, _, folder = text.partition("=")
    return scheme, Path(folder).resolve()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--stage", choices=STAGES, action="append", help="one or several; all by default")
    parser.add_argument("--artifact", type=named_artifact, action="append", default=[], metavar="SCHEME=DIR")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--cache", type=Path, default=cache.DEFAULT)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    setup = Setup(arguments.cache.resolve(), dict(arguments.artifact), arguments.threads)
    for name in arguments.stage or STAGES:
        result = compare(STAGES[name], setup, arguments.rounds)
        # Stages that are not measured now stay as they were.
        kept = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
        arguments.output.write_text(json.dumps(kept | {name: result}, indent=2) + "\n")
        print(table(result), flush=True)


if __name__ == "__main__":
    main()
