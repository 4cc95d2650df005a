"""The 1.8B shape with random weights, against this machine's ceilings measured in the same rounds.

    python benchmarks/shape_1_8b.py [--rounds 12] [--prompt-len 512] [--output benchmarks/results/FILE.json]

Compiles int8 (time, peak memory), starts a process up to its first token, then measures as `ilmari bench latency` does;
docs/performance.md says what the fractions mean. Needs 8 GB of disk.

The bar of 150 prompt tokens a second may lie above what the byte-dot peak allows on a CPU: then the fraction says how
near it is.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ilmari.artifact.artifact import Artifact
from ilmari.bench.latency import measure
from ilmari.bench.machine import provenance
from ilmari.bench.workload import Workload

RECIPE = """
name: internlm2-1_8b-int8
frontend:
  checkpoint: {checkpoint}
  type: huggingface
  shape:
    input_ids: [[1024], [2048]]
  model_kwargs:
    tp: 1
  quantize:
    type: w8a16
backend:
  dtype: int8
workspace:
  path: {workspace}
  workers: 1
"""
FIRST_TOKEN = """
import time
start = time.perf_counter()
import sys
from ilmari import LLM, SamplingParams
LLM(sys.argv[1]).generate([1, 2, 3, 4, 5, 6, 7, 8], SamplingParams(temperature=0, max_tokens=1))
print(time.perf_counter() - start)
"""
OUTPUT_LEN = 17


def compile_model(folder: Path) -> tuple[Path, float, float]:
    """Compile in a process of its own: the artifact, seconds, peak resident gigabytes."""
    # In processes of their own: a child's peak memory begins with that of its parent.
    writer = [sys.executable, Path(__file__).with_name("random_checkpoint.py"), folder / "checkpoint"]
    subprocess.run(writer, check=True)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(checkpoint=folder / "checkpoint", workspace=folder))
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "ilmari", "compile", str(recipe)])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit("the compilation failed")
    return folder / "internlm2-1_8b-int8", seconds, usage.ru_maxrss * 1024 / 1e9


def first_token_seconds(artifact: Path) -> float:
    """From `import ilmari` to the first token, in a new process with a warm page cache."""
    command = [sys.executable, "-c", FIRST_TOKEN, str(artifact)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_progress(step: str, done: int, total: int) -> None:
    print(f"{step}: {done}/{total}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--prompt-len", type=int, default=512)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, compile_seconds, compile_gb = compile_model(Path(name))
        first_token = min(first_token_seconds(folder) for _ in range(5))
        artifact = Artifact.load(folder)
        workload = Workload(1, arguments.prompt_len, OUTPUT_LEN)
        measured = measure(artifact, workload, arguments.rounds, print_progress, profile=False)
    best = measured.fields(best=True)
    result = {
        **provenance(),
        "activation": artifact.manifest.activation,
        "prompt_len": arguments.prompt_len,
        "rounds": arguments.rounds,
        "compile_s": compile_seconds,
        "compile_peak_gb": compile_gb,
        "load_to_first_token_s": first_token,
        **best,
        "median": measured.fields(best=False),
        "prefill_ceiling_tok_s": best["prefill_tok_s"] / best["prefill_fraction"],
    }
    result["bars"] = {
        "compile_s": [120, result["compile_s"] <= 120],
        "compile_peak_gb": [4, result["compile_peak_gb"] <= 4],
        "load_to_first_token_s": [2, result["load_to_first_token_s"] <= 2],
        "decode_fraction": [0.6, result["decode_fraction"] >= 0.6],
        "prefill_tok_s": [150, result["prefill_tok_s"] >= 150],
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
