"""What is compared with what: stages of engines that fit into memory together."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from benchmarks.peers import setup_ilmari, setup_llama_cpp, setup_openvino
from benchmarks.peers.llama_cpp import LlamaCpp
from benchmarks.peers.process import Worker
from benchmarks.peers.workload import Speed, Workload


class Engine(Protocol):
    """Something with a model that can be measured."""

    versions: dict[str, str]

    def measure(self, workload: Workload) -> Speed: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Setup:
    """Where things are: the cache folder, artifacts of ilmari by scheme, and the threads that each engine gets."""

    cache: Path
    artifacts: Mapping[str, Path]
    threads: int


Start = Callable[[Setup], Engine]
OURS = "ilmari"


def ilmari(scheme: str, setup: Setup) -> Engine:
    artifact = setup.artifacts.get(scheme) or setup_ilmari.artifact(setup.cache, scheme)
    threads = {"ILMARI_NUM_THREADS": str(setup.threads)}
    return Worker(sys.executable, "benchmarks.peers.ilmari_engine", [str(artifact)], threads)


def llama_cpp(file_type: str, setup: Setup) -> Engine:
    program = setup_llama_cpp.program(setup.cache, setup_llama_cpp.BENCH)
    model = setup_llama_cpp.model(setup.cache, file_type)
    return LlamaCpp(program, model, setup.threads, setup_llama_cpp.VERSION)


def openvino(pipeline: str, properties: Mapping[str, object], setup: Setup) -> Engine:
    python, model = setup_openvino.python(setup.cache), setup_openvino.int8_model(setup.cache)
    settings = json.dumps({"INFERENCE_NUM_THREADS": setup.threads, **properties})
    return Worker(python, "benchmarks.peers.openvino_genai", [pipeline, str(model), settings], {})


def openvino_precision(name: str) -> Start:
    """Activations of the linear layers as they are, instead of in 8 bits."""
    return partial(openvino, "one", {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0, "INFERENCE_PRECISION_HINT": name})


@dataclass(frozen=True)
class Stage:
    """Engines and what each of them is to do; `schemes` are those of ilmari that take part, `peers` the others."""

    weight_bytes: int
    workloads: tuple[Workload, ...]
    schemes: tuple[str, ...]
    peers: Mapping[str, Start]

    def contestants(self, artifacts: Mapping[str, Path]) -> dict[str, Start]:
        """By name; a scheme takes part if it is among the artifacts or can be compiled here."""
        there = [scheme for scheme in self.schemes if scheme in artifacts or scheme in setup_ilmari.RECIPES]
        return {f"{OURS} {scheme}": partial(ilmari, scheme) for scheme in there} | dict(self.peers)


LONG = Workload(prompt_len=512, batch=1, new_tokens=33)

STAGES = {
    "int8": Stage(
        1,
        (LONG, Workload(prompt_len=1024, batch=1, new_tokens=1)),
        ("w8a16", "w8a8"),
        {
            "llama.cpp Q8_0": partial(llama_cpp, "Q8_0"),
            "OpenVINO int8": partial(openvino, "one", {}),
            "OpenVINO int8, f32": openvino_precision("f32"),
            "OpenVINO int8, bf16": openvino_precision("bf16"),
        },
    ),
    "batch": Stage(
        1,
        tuple(Workload(prompt_len=32, batch=batch, new_tokens=25) for batch in (4, 16)),
        ("w8a16", "w8a8"),
        {"llama.cpp Q8_0": partial(llama_cpp, "Q8_0"), "OpenVINO int8": partial(openvino, "many", {})},
    ),
    "fp16": Stage(2, (LONG,), ("fp16", "bf16"), {"llama.cpp F16": partial(llama_cpp, "F16")}),
}
