"""What the front end costs: the same traffic over HTTP and around the engine alone."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.peers.process import Worker
from benchmarks.serving.contestants import InWorker, OverHttp, measure
from benchmarks.serving.rounds import Cases
from benchmarks.serving.setup import NO_DRAFTS, Bar, Part, Setup, vocab_size
from benchmarks.serving.throughput import NEW_TOKENS, PROMPT_LEN
from benchmarks.serving.traffic import Traffic

TRAFFIC = Traffic(16, PROMPT_LEN, NEW_TOKENS)
BAR = 0.05
OVER_HTTP, ALONE = "over HTTP", "engine alone"


def _cases(setup: Setup) -> Cases:
    cases = {}
    for scheme in setup.schemes:
        artifact = setup.artifact(scheme, throughput=True)
        threads = {"ILMARI_NUM_THREADS": str(setup.threads)}
        worker = Worker(sys.executable, "benchmarks.serving.engine_alone", [str(artifact)], threads)
        contestants = {
            OVER_HTTP: OverHttp(setup.serve(artifact, *NO_DRAFTS), vocab_size(artifact)),
            ALONE: InWorker(setup.started(worker)),
        }
        cases[f"{TRAFFIC.concurrency} clients, ilmari {scheme}"] = {
            name: lambda seed, contestant=contestant: measure(contestant, dataclasses.replace(TRAFFIC, seed=seed))
            for name, contestant in contestants.items()
        }
    return cases


def _bars(figures: Mapping[str, Any]) -> list[Bar]:
    return [
        Bar(
            f"throughput lost over HTTP: {case}",
            BAR,
            1 - who[OVER_HTTP]["output_tok_s"]["best"] / who[ALONE]["output_tok_s"]["best"],
            least=False,
        )
        for case, who in figures.items()
    ]


PART = Part(_cases, _bars)
