"""What ranks cost: two of one thread each beside one of two threads, the 1.8B shape with random weights.

    python benchmarks/scaling.py ONE TWO [--rounds 8] [--output benchmarks/results/scaling.json]

ONE and TWO are artifacts of one model with tp 1 and 2. Both stay loaded and take turns, so that what the machine does
meanwhile happens to both; judge by the ratio of the bests, and of the medians. Run it on a quiet machine of two cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ilmari.artifact.artifact import Artifact
from ilmari.bench.machine import provenance
from ilmari.bench.recorder import TimedGroup
from ilmari.bench.workload import Phase, Workload, run, seconds
from ilmari.engine.engine import Engine
from ilmari.engine.ranks import form

CORES = 2
BAR = 1.15
WORKLOAD = Workload(batch=1, input_len=512, output_len=17)
FIGURES = ("prefill_s", "decode_s")
PICKS: dict[str, Callable[[Sequence[float]], float]] = {"best": min, "median": statistics.median}

Ask = Callable[[], dict[str, float]]


def work(folder: Path) -> None:
    """Rank 0 of an artifact's: a line of JSON for each line that comes; the first says that the model is loaded."""
    group = TimedGroup(form(Artifact.open(folder).manifest.tp))
    artifact = Artifact.load(folder, group.rank)
    engine = Engine(artifact, max_num_seqs=1, enable_prefix_caching=False, num_speculative_tokens=0, group=group)
    print("{}", flush=True)
    for _ in sys.stdin:
        done = run(engine, WORKLOAD, group.take_calls)
        figures = {
            "prefill_s": seconds(done.prefill),
            "decode_s": seconds(done.decode),
            "prefill_all_reduce_s": _summing(done.prefill),
            "decode_all_reduce_s": _summing(done.decode),
        }
        print(json.dumps(figures), flush=True)


def _summing(phase: Phase) -> float:
    return sum(call.seconds for step in phase for call in step.calls)


@contextmanager
def contestant(artifact: Path, ranks: int) -> Iterator[Ask]:
    """A process for each rank, with the model loaded; asking runs the workload once."""
    launcher = ["mpiexec", "-n", str(ranks)] if ranks > 1 else []
    with subprocess.Popen(
        [*launcher, sys.executable, __file__, "--work", str(artifact)],
        env=os.environ | {"ILMARI_NUM_THREADS": str(CORES // ranks)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None

        def answer() -> dict[str, float]:
            assert process.stdout is not None
            figures: dict[str, float] = json.loads(process.stdout.readline())
            return figures

        def ask() -> dict[str, float]:
            print(file=process.stdin, flush=True)
            return answer()

        answer()
        yield ask
        process.stdin.close()


def compare(one: Path, two: Path, rounds: int) -> dict[str, Any]:
    """Rounds of both, the first of them thrown away, and what two ranks take for each second of one."""
    with contestant(one, 1) as of_one, contestant(two, 2) as of_two:
        taken = [(of_one(), of_two()) if number % 2 else (of_two(), of_one())[::-1] for number in range(rounds + 1)][1:]
    ratios = {
        figure: {
            name: pick([b[figure] for _, b in taken]) / pick([a[figure] for a, _ in taken])
            for name, pick in PICKS.items()
        }
        for figure in FIGURES
    }
    shares = {
        phase: statistics.median(b[f"{phase}_all_reduce_s"] / b[f"{phase}_s"] for _, b in taken)
        for phase in ("prefill", "decode")
    }
    return {
        **provenance(),
        "workload": {"input_len": WORKLOAD.input_len, "output_len": WORKLOAD.output_len},
        "two_ranks_of_one_thread_over_one_of_two": ratios,
        "all_reduce_share": shares,
        "bar": [BAR, all(ratio["best"] <= BAR for ratio in ratios.values())],
        "rounds": [{"one": a, "two": b} for a, b in taken],
    }


def main() -> None:
    if "--work" in sys.argv:
        work(Path(sys.argv[-1]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("one", type=Path)
    parser.add_argument("two", type=Path)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    result = compare(arguments.one, arguments.two, arguments.rounds)
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
