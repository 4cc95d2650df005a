"""What GPTQ costs: time and peak memory of two compilations calibrated with C4, by the real command.

    python benchmarks/calibration.py --c4 c4_en_sample.jsonl [--output benchmarks/results/calibration.json]

The demo model with 128 x 512 tokens (bar: 10 minutes), and internlm2-chat-1_8b's shape with random weights and 32 x 512
tokens (bars: 40 minutes, 6 GB). Needs 12 GB of disk.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from ilmari.bench.machine import provenance
from ilmari.demo.download import fetch_weights
from ilmari.demo.gguf_checkpoint import write_checkpoint

RECIPE = """
name: calibrated
frontend:
  checkpoint: {checkpoint}
  type: huggingface
  shape:
    input_ids: [[512], [2048]]
  model_kwargs:
    tp: 1
  quantize:
    type: w8a16_gptq
dataset:
  name: c4
  path: {c4}
  nsamples: {nsamples}
  seqlen: 512
backend:
  dtype: int8
workspace:
  path: {workspace}
  workers: 1
"""


@dataclass(frozen=True)
class Case:
    """A checkpoint, how much it reads, and what that may take: seconds, and gigabytes of resident memory."""

    name: str
    nsamples: int
    seconds: float
    peak_gb: float | None


CASES = (Case("demo model", 128, 600, None), Case("1.8B shape", 32, 2400, 6))


def write_demo(folder: Path) -> None:
    write_checkpoint(fetch_weights(lambda *_: None), folder, lambda *_: None)


def write_random(folder: Path) -> None:
    # In a process of its own: a child's peak memory begins with that of its parent.
    subprocess.run([sys.executable, Path(__file__).with_name("random_checkpoint.py"), folder], check=True)


WRITERS = {"demo model": write_demo, "1.8B shape": write_random}


def measured(case: Case, checkpoint: Path, c4: Path, workspace: Path) -> dict[str, object]:
    """Compile in a process of its own: seconds, peak resident gigabytes, and which bars hold."""
    recipe = workspace / "recipe.yaml"
    recipe.write_text(RECIPE.format(checkpoint=checkpoint, c4=c4, nsamples=case.nsamples, workspace=workspace))
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "ilmari", "compile", str(recipe)])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"compiling the {case.name} failed")
    peak_gb = usage.ru_maxrss * 1024 / 1e9
    return {
        "name": case.name,
        "nsamples": case.nsamples,
        "seqlen": 512,
        "compile_s": seconds,
        "compile_peak_gb": peak_gb,
        "bars": {
            "compile_s": [case.seconds, seconds <= case.seconds],
            **({"compile_peak_gb": [case.peak_gb, peak_gb <= case.peak_gb]} if case.peak_gb else {}),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--c4", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    found = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as name:
            workspace = Path(name)
            WRITERS[case.name](workspace / "checkpoint")
            found.append(measured(case, workspace / "checkpoint", arguments.c4.absolute(), workspace))
        print(json.dumps(found[-1]), flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps({**provenance(), "cases": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
