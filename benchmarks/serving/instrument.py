"""Whether `bench serve` measures what servers say of themselves: ilmari by its metrics, llama.cpp by its timings.

    python -m benchmarks.serving.instrument [--only ilmari] [--cache DIR] [--threads 2] [--output FILE]

The demo model in both, from the same file of weights. Run it from the repository's root, on a quiet machine.
"""

import argparse
import asyncio
import json
import statistics
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import cache, setup_llama_cpp
from benchmarks.serving import setup_demo
from benchmarks.serving.metrics_page import read_metrics
from benchmarks.serving.servers import Server, ilmari_server, llama_server
from benchmarks.serving.setup import NO_DRAFTS
from ilmari.bench.machine import provenance
from ilmari.bench.serve.acquaintance import Acquaintance, find_model, get_to_know
from ilmari.bench.serve.asker import Asker
from ilmari.bench.serve.client import Client
from ilmari.bench.serve.connection import OnData, Response
from ilmari.bench.serve.dialect import Dialect
from ilmari.bench.serve.events import EventStream
from ilmari.bench.serve.load import closed_loop
from ilmari.bench.serve.plan import Endpoint
from ilmari.bench.serve.prompts import Prompt, random_prompts
from ilmari.bench.serve.reading import DONE
from ilmari.bench.serve.reply import Reply
from ilmari.bench.serve.target import Target
from ilmari.demo.download import fetch_weights

RESULTS = Path(__file__).parents[1] / "results" / "instrument.json"
INPUT_LEN, OUTPUT_LEN = 512, 64
CONCURRENCIES = (1, 4)
PROMPTS = 8
CONTEXT = 1024
HISTOGRAMS = {
    "ttft": "ilmari:time_to_first_token_seconds",
    "tpot": "ilmari:request_time_per_output_token_seconds",
    "itl": "ilmari:inter_token_latency_seconds",
    "e2el": "ilmari:e2e_request_latency_seconds",
}

Means = dict[str, float]
"""Milliseconds by metric."""


class Listener(Client):
    """A client that also keeps the `timings` that llama.cpp's server puts into the last chunk of each reply."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.timings: list[Mapping[str, float]] = []

    async def post(self, path: str, body: bytes, on_data: OnData | None = None) -> Response:
        events = EventStream()
        payloads: list[bytes] = []

        def both(now: float, data: bytes) -> None:
            payloads.extend(events.feed(data))
            if on_data:
                on_data(now, data)

        response = await super().post(path, body, both)
        chunks = [json.loads(payload) for payload in payloads if payload != DONE]
        self.timings += [chunk["timings"] for chunk in chunks if "timings" in chunk][-1:]
        return response


def measured(replies: Sequence[Reply]) -> Means:
    """As `bench serve` reports them."""
    return {
        "ttft": 1e3 * statistics.fmean(reply.ttft for reply in replies),
        "tpot": 1e3 * statistics.fmean(reply.tpot or 0.0 for reply in replies),
        "itl": 1e3 * statistics.fmean(end - begin for reply in replies for begin, end in reply.gaps),
        "e2el": 1e3 * statistics.fmean(reply.latency for reply in replies),
    }


async def meet(client: Client) -> Acquaintance:
    """What `bench serve` finds out before it measures."""
    model, longest = await find_model(client, None)
    return await get_to_know(client, Dialect(Endpoint.CHAT, model), longest, print)


async def ask(client: Client, known: Acquaintance, concurrency: int, seed: int) -> list[Reply]:
    """Chat replies of a fixed length to prompts of a fixed length."""
    rng = np.random.default_rng((seed, concurrency))
    prompts: list[Prompt] = random_prompts(PROMPTS, INPUT_LEN, OUTPUT_LEN, known.ruler, rng, same=False)
    replies = await closed_loop(Asker(client, known.dialect), prompts, concurrency)
    assert [reply.error for reply in replies] == [None] * PROMPTS
    return replies


async def beside_llama_cpp(server: Server, concurrency: int) -> tuple[Means, Means]:
    """What was measured, and what the server says: milliseconds of the prompt, and of the tokens after the first."""
    async with Listener(_target(server)) as client:
        replies = await ask(client, await meet(client), concurrency, 0)
        timings = client.timings[-len(replies) :]
    first = statistics.fmean(timing["prompt_ms"] for timing in timings)
    rest = statistics.fmean(timing["predicted_ms"] for timing in timings)
    tpot = statistics.fmean(timing["predicted_ms"] / (timing["predicted_n"] - 1) for timing in timings)
    return measured(replies), {"ttft": first, "tpot": tpot, "e2el": first + rest}


async def beside_ilmari(server: Server, concurrency: int) -> tuple[Means, Means]:
    """What was measured, and what the server's histograms gained meanwhile."""
    async with Client(_target(server)) as client:
        known = await meet(client)
        before = await read_metrics(server.address)
        replies = await ask(client, known, concurrency, 0)
        after = await read_metrics(server.address)
    return measured(replies), {name: _gained(before, after, metric) for name, metric in HISTOGRAMS.items()}


def _gained(before: Mapping[str, float], after: Mapping[str, float], metric: str) -> float:
    names = (f"{metric}_sum", f"{metric}_count")  # which are not there before the first reply of two tokens
    total, count = (after[name] - before.get(name, 0.0) for name in names)
    return 1e3 * total / count


def _target(server: Server) -> Target:
    return Target(server.address.host, server.address.port, tls=False, path="/v1")


def compared(pair: tuple[Means, Means]) -> dict[str, Any]:
    """Both, and how far the measured is from the server's own, for what the server tells."""
    ours, theirs = pair
    return {
        name: {"measured_ms": ours[name], "server_ms": its, "deviation": ours[name] / its - 1}
        for name, its in theirs.items()
    }


def ilmari(folder: Path, threads: int) -> dict[str, Any]:
    """By number of clients."""
    with closing(ilmari_server(setup_demo.artifact(folder), NO_DRAFTS, threads)) as server:
        return {str(clients): compared(asyncio.run(beside_ilmari(server, clients))) for clients in CONCURRENCIES}


def llama_cpp(folder: Path, threads: int) -> dict[str, Any]:
    """By number of clients."""
    program = setup_llama_cpp.program(folder, setup_llama_cpp.SERVER)
    weights = fetch_weights(lambda *_: None)
    with closing(llama_server(program, weights, threads, max(CONCURRENCIES), CONTEXT)) as server:
        return {str(clients): compared(asyncio.run(beside_llama_cpp(server, clients))) for clients in CONCURRENCIES}


SERVERS = {"ilmari": ilmari, "llama.cpp": llama_cpp}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=SERVERS, action="append", help="one or several; all by default")
    parser.add_argument("--cache", type=Path, default=cache.DEFAULT)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    for who in arguments.only or SERVERS:
        figures = SERVERS[who](arguments.cache.resolve(), arguments.threads)
        about = {**provenance(), "threads": arguments.threads}
        lengths = {"input_len": INPUT_LEN, "output_len": OUTPUT_LEN, "prompts": PROMPTS}
        kept = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
        result = kept | {who: {**about, **lengths, "clients": figures}}
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")
        for clients, metrics in figures.items():
            words = ", ".join(f"{name} {pair['deviation']:+.2%}" for name, pair in metrics.items())
            print(f"{who}, clients: {clients}; {words}", flush=True)


if __name__ == "__main__":
    main()
