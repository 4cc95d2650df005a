"""The worker that runs OpenVINO's continuous batching: python -m benchmarks.serving.openvino_batching MODEL PROPERTIES

PROPERTIES are those of the CPU plug-in, as JSON. The schedule is the default one.
"""

import itertools
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import openvino
import openvino_genai

from benchmarks.peers.openvino_genai import CACHE_GB
from benchmarks.peers.worker import serve
from benchmarks.serving import stepwise
from benchmarks.serving.reply import Reply
from benchmarks.serving.traffic import Traffic


def main() -> None:
    model, properties = sys.argv[1:]
    vocab_size = json.loads(Path(model, "config.json").read_text())["vocab_size"]
    schedule = openvino_genai.SchedulerConfig()
    schedule.cache_size = CACHE_GB
    pipeline = openvino_genai.ContinuousBatchingPipeline(model, schedule, "CPU", json.loads(properties))
    numbers = itertools.count()

    def loop(traffic: Traffic) -> list[Reply]:
        handles = {}
        generation = openvino_genai.GenerationConfig(
            max_new_tokens=traffic.new_tokens, ignore_eos=True, do_sample=False
        )

        def add(prompt: list[int]) -> int:
            number = next(numbers)
            handles[number] = pipeline.add_request(number, openvino.Tensor(np.array([prompt], np.int64)), generation)
            return number

        def step() -> list[tuple[int, int]]:
            pipeline.step()
            readable = [(number, handle) for number, handle in handles.items() if handle.can_read()]
            return [
                (number, sum(len(output.generated_ids) for output in handle.read().values()))
                for number, handle in readable
            ]

        replies = stepwise.closed_loop(traffic, vocab_size, add, step)
        while pipeline.has_non_finished_requests():
            pipeline.step()
        return replies

    serve(stepwise.answer(loop), {name: version(name) for name in ("openvino", "openvino-genai")})


if __name__ == "__main__":
    main()
