"""Tokens a second, TTFT and ITL of 1, 4 and 16 clients, beside llama.cpp's server and OpenVINO's batching."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from benchmarks.peers import setup_llama_cpp, setup_openvino
from benchmarks.peers.process import Worker
from benchmarks.random_checkpoint import VOCAB
from benchmarks.serving.contestants import Contestant, InWorker, OverHttp, measure
from benchmarks.serving.rounds import Cases, Measure
from benchmarks.serving.servers import llama_server
from benchmarks.serving.setup import NO_DRAFTS, Bar, Part, Setup, vocab_size
from benchmarks.serving.traffic import Traffic

PROMPT_LEN, NEW_TOKENS = 128, 64
CONCURRENCIES = (1, 4, 16)
CONTEXT = 256  # what llama.cpp's slots have room for: a multiple of 256
LLAMA_CPP, OPENVINO = "llama.cpp Q8_0", "OpenVINO int8"
BARS = {LLAMA_CPP: 2.0, OPENVINO: 1.5}
BARRED = (4, 16)


def ilmari(setup: Setup, scheme: str) -> Contestant:
    """Without drafts: random weights may fall into repeating themselves, and nobody else here guesses ahead."""
    artifact = setup.artifact(scheme, throughput=True)
    return OverHttp(setup.serve(artifact, *NO_DRAFTS), vocab_size(artifact))


def llama_cpp(setup: Setup) -> Contestant:
    program = setup_llama_cpp.program(setup.cache, setup_llama_cpp.SERVER)
    model = setup_llama_cpp.model(setup.cache, "Q8_0")
    setup.versions["llama.cpp"] = setup_llama_cpp.VERSION
    server = llama_server(program, model, setup.threads, max(CONCURRENCIES), CONTEXT)
    return OverHttp(setup.started(server), VOCAB)


def openvino(setup: Setup) -> Contestant:
    python, model = setup_openvino.python(setup.cache), setup_openvino.int8_model(setup.cache)
    properties = json.dumps({"INFERENCE_NUM_THREADS": setup.threads})
    worker = setup.started(Worker(python, "benchmarks.serving.openvino_batching", [str(model), properties], {}))
    setup.versions.update(worker.versions)
    return InWorker(worker)


def _measure(contestant: Contestant, concurrency: int) -> Measure:
    traffic = Traffic(concurrency, PROMPT_LEN, NEW_TOKENS)
    return lambda seed: measure(contestant, dataclasses.replace(traffic, seed=seed))


def _cases(setup: Setup) -> Cases:
    starts = {f"ilmari {scheme}": partial(ilmari, setup, scheme) for scheme in setup.schemes}
    starts |= {LLAMA_CPP: partial(llama_cpp, setup), OPENVINO: partial(openvino, setup)}
    contestants = {name: start() for name, start in starts.items()}
    return {
        str(concurrency): {name: _measure(contestant, concurrency) for name, contestant in contestants.items()}
        for concurrency in CONCURRENCIES
    }


def _bars(figures: Mapping[str, Any]) -> list[Bar]:
    bars = []
    for concurrency in map(str, BARRED):
        speeds = {name: each["output_tok_s"]["best"] for name, each in figures[concurrency].items()}
        bars += [
            Bar(f"output tok/s at {concurrency}: {name} over {peer}", bar, speeds[name] / speeds[peer], least=True)
            for peer, bar in BARS.items()
            for name in speeds
            if name not in BARS
        ]
    return bars


PART = Part(_cases, _bars)
