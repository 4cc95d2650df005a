"""Measures the server under load, in rounds in which engines take turns, and says which bars are met.

    python -m benchmarks.serving.load [--rounds 10] [--cache DIR] [--only PART] [--artifact w8a8=DIR] [--output FILE]

Run it from the repository's root, on a quiet machine. Parts that are not measured keep their figures in the output.
"""

import argparse
import dataclasses
import json
import shlex
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.peers import cache
from benchmarks.peers.compare import named_artifact
from benchmarks.peers.machine import Machine
from benchmarks.serving import drafts, front_end, prefix, stall, throughput
from benchmarks.serving.rounds import run_rounds, summary
from benchmarks.serving.setup import Part, Setup
from ilmari.bench.machine import provenance

RESULTS = Path(__file__).parents[1] / "results" / "serving.json"
THREADS = 2
SCHEMES = ("w8a16", "w8a8")
PARTS = {
    "throughput": throughput.PART,
    "stall": stall.PART,
    "prefix": prefix.PART,
    "drafts": drafts.PART,
    "front_end": front_end.PART,
}


def run(part: Part, setup: Setup, rounds: int) -> dict[str, Any]:
    """Start what the part compares, measure it and the machine's ceilings, and end it."""
    machine = Machine(setup.threads)
    with ExitStack() as stack:
        setup = dataclasses.replace(setup, stack=stack, versions={})
        cases = part.cases(setup)
        before = machine.rates()
        done = run_rounds(cases, rounds)
        ceilings = [before, machine.rates()]
    figures = summary(done)
    known = provenance()
    return {
        **known,
        "versions": known["versions"] | setup.versions,
        "flags": list(setup.flags),
        "ceilings": ceilings,
        "bars": [{**dataclasses.asdict(bar), "met": bar.met} for bar in part.bars(figures)],
        "figures": figures,
        "rounds": done,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", choices=PARTS, action="append", help="one or several; all by default")
    parser.add_argument("--scheme", choices=SCHEMES, action="append", help="one or several; all by default")
    parser.add_argument("--artifact", type=named_artifact, action="append", default=[], metavar="SCHEME=DIR")
    parser.add_argument("--flags", type=shlex.split, default=[], help="more flags for `ilmari serve`")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--cache", type=Path, default=cache.DEFAULT)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended, as after Ctrl-C
    setup = Setup(
        cache=arguments.cache.resolve(),
        artifacts=dict(arguments.artifact),
        schemes=tuple(arguments.scheme or SCHEMES),
        threads=arguments.threads,
        flags=tuple(arguments.flags),
    )
    for name in arguments.only or PARTS:
        result = run(PARTS[name], setup, arguments.rounds)
        kept = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
        arguments.output.write_text(json.dumps(kept | {name: result}, indent=2) + "\n")
        for bar in result["bars"]:
            print(f"{'met' if bar['met'] else 'MISSED'}: {bar['what']}: {bar['measured']:.3g} (bar {bar['bar']:g})")


if __name__ == "__main__":
    main()
