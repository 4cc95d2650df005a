"""The worker that runs OpenVINO GenAI: python -m benchmarks.peers.openvino_genai one|many MODEL PROPERTIES

`one` is `LLMPipeline`, which reports its own times; `many` is `ContinuousBatchingPipeline`, step by step. PROPERTIES
are those of the CPU plug-in, as JSON.
"""

import itertools
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import openvino
import openvino_genai

from benchmarks.peers.worker import serve_workloads
from benchmarks.peers.workload import Speed, Workload, run_steps

CACHE_GB = 2


def one(model: str, vocab_size: int, properties: dict[str, object]) -> Callable[[Workload], Speed]:
    """Batch 1: time to the first token and time per token after it, as the pipeline reports them."""
    pipeline = openvino_genai.LLMPipeline(model, "CPU", **properties)

    def measure(workload: Workload) -> Speed:
        (prompt,) = _tensors(workload, vocab_size)
        metrics = pipeline.generate(prompt, _generation(workload)).perf_metrics
        prefill = workload.prompt_len * 1000 / metrics.get_ttft().mean
        return Speed(prefill, 1000 / metrics.get_tpot().mean if workload.new_tokens > 1 else 0.0)

    return measure


def many(model: str, vocab_size: int, properties: dict[str, object]) -> Callable[[Workload], Speed]:
    """Any batch, by continuous batching with its default schedule."""
    schedule = openvino_genai.SchedulerConfig()
    schedule.cache_size = CACHE_GB
    pipeline = openvino_genai.ContinuousBatchingPipeline(model, schedule, "CPU", properties)
    ids = itertools.count()

    def measure(workload: Workload) -> Speed:
        prompts = _tensors(workload, vocab_size)
        handles = [pipeline.add_request(next(ids), prompt, _generation(workload)) for prompt in prompts]

        def step() -> list[int]:
            pipeline.step()
            return [index for index, handle in enumerate(handles) if handle.can_read() and handle.read()]

        speed = run_steps(workload, step)
        while pipeline.has_non_finished_requests():
            pipeline.step()
        return speed

    return measure


def _tensors(workload: Workload, vocab_size: int) -> list[openvino.Tensor]:
    return [openvino.Tensor(np.array([prompt], np.int64)) for prompt in workload.prompts(vocab_size)]


def _generation(workload: Workload) -> openvino_genai.GenerationConfig:
    return openvino_genai.GenerationConfig(max_new_tokens=workload.new_tokens, ignore_eos=True, do_sample=False)


def main() -> None:
    kind, model, properties = sys.argv[1:]
    vocab_size = json.loads(Path(model, "config.json").read_text())["vocab_size"]
    measure = {"one": one, "many": many}[kind](model, vocab_size, json.loads(properties))
    serve_workloads(measure, {name: version(name) for name in ("openvino", "openvino-genai")})


if __name__ == "__main__":
    main()
