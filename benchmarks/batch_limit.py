"""What the products of a step of 16 replies can reach, with nothing around them: a C program for AVX512-VNNI.

    python benchmarks/batch_limit.py [--rounds 10] [--threads 2] [--output benchmarks/results/FILE.json]

The same register tile as in `kernels/linear_groups.py`, by the same instructions, for 16 rows of 2048 inputs, with the
weights in the second-level cache and with weights from memory, each used once; beside the peak of the instruction and
the bandwidth; and as on Zen 5, with few loads in a loop (`Isa.loads`), asking into the first-level cache, and both. All
by turns, the best and the median round of each.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from statistics import median

from ilmari.bench.machine import provenance

SOURCE = Path(__file__).with_suffix(".c")
OUTPUT = Path(__file__).parent / "results" / "batch_limit.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "batch_limit"
        subprocess.run(["cc", "-O3", "-march=native", "-fopenmp", "-o", program, SOURCE], check=True)
        environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
        lines = subprocess.run(
            [program, str(arguments.rounds)], env=environment, check=True, capture_output=True, text=True
        ).stdout.splitlines()
    rates: dict[str, list[float]] = {}
    for name, amount, seconds in (line.split("\t") for line in lines):
        rates.setdefault(name, []).append(arguments.threads * int(amount) / float(seconds) / 1e9)
    found = {name: {"best": max(values), "median": median(values)} for name, values in rates.items()}
    for name, rate in found.items():
        if name == "read":
            print(f"{name:25} {rate['best']:6.1f} GB/s ({rate['median']:.1f})")
        else:
            of_peak = (rate[statistic] / found["peak"][statistic] for statistic in ("best", "median"))
            print(f"{name:25} {rate['best']:6.1f} GMAC/s", "{:.2f} of the peak ({:.2f})".format(*of_peak))
    results = {**provenance(), "threads": arguments.threads, "rounds": arguments.rounds, "rates": found}
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
