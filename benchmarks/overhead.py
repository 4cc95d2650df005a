"""What a decoding step takes outside of its kernels: steps in which they do next to nothing, by turns with real ones.

    python benchmarks/overhead.py ARTIFACT [--rounds 10] [--steps 24]

Scheduling, laying out the batch, calling kernels, and sampling, its kernels included, are what is left of an empty
step: in place of every other kernel the norm of no rows is called. The logits are those of the last real step, and of
random weights: nearly all tokens are nearly equal, and top_p keeps most of them.
Writes benchmarks/results/overhead.json.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ilmari import SamplingParams
from ilmari.artifact.artifact import KERNELS, Artifact
from ilmari.bench.machine import provenance
from ilmari.engine.engine import Engine
from ilmari.kernels.compiler import SAMPLING
from ilmari.kernels.library import KernelLibrary, aligned_zeros, tensor
from ilmari.kernels.plan import Plan

OUTPUT = Path(__file__).parent / "results" / "overhead.json"
CONTEXT = 32
DRAWS = {
    "greedy": {"temperature": 0.0},
    "top_k 40, top_p 0.8": {"temperature": 0.8, "top_k": 40, "top_p": 0.8},
    "top_p 0.8": {"temperature": 0.8, "top_p": 0.8},
}
BATCHES = 1, 16


class EmptyKernels(KernelLibrary):
    """An artifact's kernels; while `empty`, all but those of sampling are the norm of no rows."""

    empty = False
    sampling = frozenset(kernel.__name__ for kernel in SAMPLING)

    def __init__(self, path: Path, plan: Plan) -> None:
        super().__init__(path)
        hidden, form = plan.config.hidden_size, plan.form(1)
        self._norm = super().__getitem__(f"norm_{form.name}")
        rows, weight = aligned_zeros((0, hidden), "float32"), aligned_zeros((hidden,), "float32")
        normed = (aligned_zeros((0, part.columns(hidden)), part.dtype) for part in form.parts)
        self._nothing = [tensor(array) for array in (rows, weight, *normed)]

    def __getitem__(self, name: str) -> Callable[..., None]:
        kernel = super().__getitem__(name)

        def run(*arguments: Any) -> None:
            if self.empty and name not in self.sampling:
                self._norm(*self._nothing)
            else:
                kernel(*arguments)

        return run


def steps(engine: Engine, library: EmptyKernels, batch: int, params: SamplingParams) -> dict[str, list[float]]:
    """Seconds of decoding steps, every second of them empty."""
    rng = np.random.default_rng(0)
    for _ in range(batch):
        engine.add(rng.integers(1000, engine.config.vocab_size, CONTEXT).tolist(), params, frozenset())
    seconds: dict[str, list[float]] = {"step": [], "outside": []}
    while len(engine.step()) < batch:  # prompts
        pass
    while engine.has_work:
        kind = "outside" if library.empty else "step"
        start = time.perf_counter()
        engine.step()
        seconds[kind].append(time.perf_counter() - start)
        library.empty = not library.empty
    library.empty = False
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=24)
    arguments = parser.parse_args()
    artifact = Artifact.load(arguments.artifact)
    library = EmptyKernels(artifact.folder / KERNELS, artifact.manifest.plan)
    engine = Engine(artifact, enable_prefix_caching=False, num_speculative_tokens=0, library=library)
    found: dict[tuple[int, str], dict[str, list[float]]] = {}
    for round_ in range(arguments.rounds + 1):
        for batch in BATCHES:
            for draw, settings in DRAWS.items():
                params = SamplingParams(**settings, seed=round_, max_tokens=arguments.steps, ignore_eos=True)
                seconds = steps(engine, library, batch, params)
                if round_:  # the first one warms up
                    for kind, values in seconds.items():
                        found.setdefault((batch, draw), {}).setdefault(kind, []).extend(values)
    rows = []
    for (batch, draw), kinds in found.items():
        best, median = ({kind: float(of(values)) for kind, values in kinds.items()} for of in (np.min, np.median))
        row: dict[str, Any] = {"batch": batch, "sampling": draw}
        for name, figures in (("best", best), ("median", median)):
            row[name] = {
                "step_ms": figures["step"] * 1e3,
                "outside_ms": figures["outside"] * 1e3,
                "fraction": figures["outside"] / figures["step"],
            }
        rows.append(row)
        print(
            batch,
            draw,
            *(f"{row[name]['fraction']:.2%} of {row[name]['step_ms']:.1f} ms" for name in ("best", "median")),
        )
    OUTPUT.write_text(json.dumps({**provenance(), "model": arguments.artifact.name, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
