"""The 1.8B shape with random weights, against this machine's ceilings measured in the same rounds.

    python benchmarks/shape_1_8b.py [--rounds 12] [--prompt-len 512] [--output benchmarks/results/FILE.json]

Compiles int8 (time, peak memory), starts a process up to its first token, then alternates ceilings, prefill and decode.
Judge by the ratio of the bests: noise on a shared machine only ever slows things down. Needs 8 GB of disk.

The fractions: bytes of weights and cached keys and values that a decoded token must read, over the read bandwidth; byte
products that a prompt needs (two for each multiply-add, as activations have two bytes), over the byte-dot peak. The bar
of 150 tokens a second may lie above what that peak allows on a CPU: then the fraction says how near it is.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ceilings import Ceilings, timed

from ilmari import LLM, SamplingParams
from ilmari.artifact.params import params_bytes
from ilmari.engine.engine import Engine
from ilmari.model.cost import kv_bytes_per_token, macs_per_token
from ilmari.settings import num_threads

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
BYTE_PRODUCTS = 2  # for each multiply-add with 16-bit activations
DECODE_TOKENS = 16


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


def sample_round(engine: Engine, ceilings: Ceilings, prompt_len: int) -> dict[str, float]:
    """One sample of everything, in turn."""
    prompt = np.random.default_rng(0).integers(3, engine.config.vocab_size, prompt_len).tolist()
    read, dots = ceilings.read_gb_s(), ceilings.int8_gmac_s()
    engine.add(prompt, SamplingParams(temperature=0, max_tokens=DECODE_TOKENS, ignore_eos=True), frozenset())
    prefill = timed(engine.step)
    steps = []
    while engine.has_work:
        steps.append(timed(engine.step))
    return {
        "read_gb_s": max(read, ceilings.read_gb_s()),
        "int8_gmac_s": max(dots, ceilings.int8_gmac_s()),
        "prefill_tok_s": prompt_len / prefill,
        "decode_tok_s": len(steps) / sum(steps),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--prompt-len", type=int, default=512)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        artifact, compile_seconds, compile_gb = compile_model(Path(name))
        first_token = min(first_token_seconds(artifact) for _ in range(5))
        llm = LLM(artifact)
        engine, ceilings = llm.engine, Ceilings()
        sample_round(engine, ceilings, arguments.prompt_len)
        rounds = []
        for index in range(arguments.rounds):
            rounds.append(sample_round(engine, ceilings, arguments.prompt_len))
            print(index, {key: round(value, 1) for key, value in rounds[-1].items()}, flush=True)
    plan = engine.manifest.plan
    embedding = plan.config.vocab_size * plan.config.hidden_size * 2
    context = arguments.prompt_len + DECODE_TOKENS / 2
    token_bytes = params_bytes(plan) - embedding + context * kv_bytes_per_token(plan.config)
    head_macs = plan.config.vocab_size * plan.config.hidden_size
    last_layer_macs = plan.config.hidden_size * (plan.config.q_size + 3 * plan.config.intermediate_size)
    # The last layer's output and feed-forward products are needed for one token only, the head is not counted.
    prompt_macs = (macs_per_token(plan.config) - head_macs - last_layer_macs) * arguments.prompt_len
    best = {key: max(sample[key] for sample in rounds) for key in rounds[0]}
    median = {key: statistics.median(sample[key] for sample in rounds) for key in rounds[0]}
    prefill_seconds = arguments.prompt_len / best["prefill_tok_s"]
    result = {
        "date": datetime.date.today().isoformat(),
        "cpu": _cpu_name(),
        "threads": num_threads(),
        "versions": {name: version(name) for name in ("ilmari", "apache-tvm", "numpy")},
        "activation": engine.manifest.activation,
        "prompt_len": arguments.prompt_len,
        "compile_s": compile_seconds,
        "compile_peak_gb": compile_gb,
        "load_to_first_token_s": first_token,
        "bytes_per_token": token_bytes,
        "best": best,
        "median": median,
        "decode_fraction": best["decode_tok_s"] * token_bytes / 1e9 / best["read_gb_s"],
        "prefill_fraction": prompt_macs * BYTE_PRODUCTS / prefill_seconds / 1e9 / best["int8_gmac_s"],
        "prefill_ceiling_tok_s": best["int8_gmac_s"] * 1e9 / BYTE_PRODUCTS / (prompt_macs / arguments.prompt_len),
        "rounds": rounds,
    }
    result["bars"] = {
        "compile_s": [120, result["compile_s"] <= 120],
        "compile_peak_gb": [4, result["compile_peak_gb"] <= 4],
        "load_to_first_token_s": [2, result["load_to_first_token_s"] <= 2],
        "decode_fraction": [0.6, result["decode_fraction"] >= 0.6],
        "prefill_tok_s": [150, best["prefill_tok_s"] >= 150],
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "rounds"}))


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
