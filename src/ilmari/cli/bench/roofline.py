"""`ilmari bench roofline`: what this machine can do at best, now."""

from __future__ import annotations

from typing import Any

from ilmari.cli.bench.output import Rounds, threads_of
from ilmari.cli.options import JsonFlag, Threads
from ilmari.cli.output import print_json, print_table

ROUNDS = 10


def roofline_command(rounds: Rounds = ROUNDS, threads: Threads = None, as_json: JsonFlag = False) -> None:
    """Measure read bandwidth and multiply-add peaks, now."""
    from ilmari.settings import set_num_threads

    set_num_threads(threads)

    from statistics import median

    from ilmari.bench.ceilings import Ceilings, Rates
    from ilmari.bench.machine import provenance
    from ilmari.cli.progress import progress

    with progress(live=False) as report:
        report("compile kernels", 0, 1)
        ceilings = Ceilings()
        report("compile kernels", 1, 1)
        samples = []
        for done in range(rounds):
            report("read and multiply", done, rounds)
            samples.append(ceilings.sample())
        report("read and multiply", rounds, rounds)
    best, middle = Rates.of(samples, max), Rates.of(samples, median)
    result = {**best.fields(), "median": middle.fields(), "rounds": rounds, "isa": ceilings.isa.name, **provenance()}
    if not as_json:
        _print_ceilings(result)
    print_json(result)


def _print_ceilings(result: dict[str, Any]) -> None:
    from ilmari.bench.ceilings import INSTRUCTIONS

    print(f"{result['cpu']}, {threads_of(result)}, {result['isa']} kernels\n")
    quantities = {"read_gb_s": "read bandwidth, GB/s"} | {
        f"{name}_gmac_s": f"{name} {instruction.description}s, 10^9 multiply-adds/s"
        for name, instruction in INSTRUCTIONS.items()
    }
    rows = [
        {"what": words, "best": result[key], "median": result["median"][key]}
        if result[key] is not None
        else {"what": f"{words}: this CPU has none"}
        for key, words in quantities.items()
    ]
    print_table((("", "what"), ("best", "best"), ("median", "median")), rows)
    print()
