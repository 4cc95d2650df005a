"""The worker that runs ilmari: python -m benchmarks.peers.ilmari_engine ARTIFACT"""

import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers.worker import serve
from benchmarks.peers.workload import Speed, Workload, run_steps
from ilmari import SamplingParams
from ilmari.artifact.artifact import Artifact
from ilmari.engine.engine import Engine


def main() -> None:
    # Every round is to compute everything, and one token of each reply at a time.
    engine = Engine(Artifact.load(Path(sys.argv[1])), enable_prefix_caching=False, num_speculative_tokens=0)

    def measure(workload: Workload) -> Speed:
        params = SamplingParams(temperature=0, max_tokens=workload.new_tokens, ignore_eos=True)
        for prompt in workload.prompts(engine.config.vocab_size):
            engine.add(prompt, params, frozenset())
        speed = run_steps(workload, lambda: [sequence.id for sequence in engine.step()])
        while engine.has_work:
            engine.step()
        return speed

    serve(measure, {name: version(name) for name in ("ilmari", "apache-tvm")})


if __name__ == "__main__":
    main()
