"""The worker that runs ilmari's engine without a front end: python -m benchmarks.serving.engine_alone ARTIFACT"""

import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers.worker import serve
from benchmarks.serving import stepwise
from benchmarks.serving.reply import Reply
from benchmarks.serving.traffic import Traffic
from ilmari import SamplingParams
from ilmari.artifact.artifact import Artifact
from ilmari.engine.engine import Engine


def main() -> None:
    artifact = Artifact.load(Path(sys.argv[1]))
    engine = Engine(artifact, throughput=artifact.manifest.throughput, num_speculative_tokens=0)

    def loop(traffic: Traffic) -> list[Reply]:
        params = SamplingParams(temperature=0, max_tokens=traffic.new_tokens, ignore_eos=True)
        known: dict[int, int] = {}

        def add(prompt: list[int]) -> int:
            sequence = engine.add(prompt, params, frozenset())
            known[sequence.id] = len(prompt)
            return sequence.id

        def step() -> list[tuple[int, int]]:
            gained = []
            for sequence in engine.step():
                gained.append((sequence.id, len(sequence.tokens) - known[sequence.id]))
                known[sequence.id] = len(sequence.tokens)
            return gained

        return stepwise.closed_loop(traffic, engine.config.vocab_size, add, step)

    serve(stepwise.answer(loop), {"ilmari": version("ilmari")})


if __name__ == "__main__":
    main()
