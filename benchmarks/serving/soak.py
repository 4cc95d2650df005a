"""Besieges a server with mixed traffic at twice its capacity, and checks that nothing is lost, leaked or mixed up.

    python -m benchmarks.serving.soak [--model DIR] [--minutes 30] [--kill 20] [--output FILE]

With --kill the engine's process is killed so many times meanwhile. Exits with 1 if anything does not hold.
"""

import argparse
import asyncio
import dataclasses
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.peers import cache
from benchmarks.serving import setup_demo
from benchmarks.serving.checks import AT_REST, MEMORY_MARGIN, Siege, check_all, killed_in_flight
from benchmarks.serving.client import Address, fetch
from benchmarks.serving.crowd import Crowd
from benchmarks.serving.killer import Kill, kill_at
from benchmarks.serving.metrics_page import read_metrics
from benchmarks.serving.processes import anonymous_bytes, engine_of
from benchmarks.serving.question import Limits, filling_questions, known_questions
from benchmarks.serving.servers import Server, ilmari_server
from ilmari.bench.machine import provenance

RESULTS = Path(__file__).parents[1] / "results" / "soak.json"
RUNNING, QUEUED = 8, 8
FLAGS = ("--max-num-seqs", str(RUNNING), "--max-num-queued-reqs", str(QUEUED))
CLIENTS = 2 * (RUNNING + QUEUED)
WARM_UP = 0.25  # share of the time, at most a minute
LONGEST_WARM_UP_S = 60.0
SAMPLES = 60  # of memory
REST_S = 30.0  # for the engine to end what nobody waits for any more


async def limits_of(address: Address, artifact: Path) -> Limits:
    """Of the served model."""
    _, models = await fetch(address, "/v1/models")
    _, schema = await fetch(address, "/openapi.json")
    fields = json.loads(schema)["components"]["schemas"]["ChatRequest"]["properties"]
    manifest = json.loads((artifact / "manifest.json").read_text())
    return Limits(
        max_len=json.loads(models)["data"][0]["max_model_len"],
        max_prompt_len=manifest["max_prompt_len"],
        vocab_size=manifest["model"]["vocab_size"],
        tools="tools" in fields,
    )


def memory(server: Server) -> dict[str, int]:
    """Anonymous bytes of both processes; an engine that is being started again has none."""
    engine = engine_of(server.pid)
    return {"front end": anonymous_bytes(server.pid), "engine": anonymous_bytes(engine) if engine else 0}


async def besiege(server: Server, artifact: Path, seconds: float, kills: int, log: Path) -> dict[str, Any]:
    """The whole soak; what is measured and checked."""
    limits = await limits_of(server.address, artifact)
    crowd = Crowd(server.address, limits, CLIENTS)
    right = {}
    for question in known_questions(limits):
        right[question.known or 0] = (await crowd.ask(question)).text
    for question in filling_questions(limits, RUNNING):
        await crowd.ask(question)
    began = time.monotonic()
    warm = min(WARM_UP * seconds, LONGEST_WARM_UP_S)
    # What starting an engine again takes is part of the warm-up too.
    times = [began + warm + (seconds - warm) * (number - 0.5) / kills for number in range(kills)]
    times[:1] = [began + warm / 2] * bool(kills)
    _, done = await asyncio.gather(crowd.besiege(began + warm), kill_at(times[:1], server, crowd))
    first = memory(server)
    killing = asyncio.create_task(kill_at(times[1:], server, crowd))
    samples: list[dict[str, Any]] = []
    sampling = asyncio.create_task(_sample(server, samples, began, seconds / SAMPLES))
    await crowd.besiege(began + seconds)
    sampling.cancel()
    done += await killing
    idle = await _rest(server.address)
    last = memory(server)
    pairs = {name: (first[name], last[name]) for name in first if not (kills and name == "engine")}
    siege = Siege(crowd.visits, right, done, pairs, idle, log)
    checks = check_all(siege)
    return {
        **provenance(),
        "minutes": seconds / 60,
        "clients": CLIENTS,
        "flags": list(FLAGS),
        **_counts(siege),
        "kills": [_kill(crowd, kill) for kill in done],
        "memory_margin_mib": MEMORY_MARGIN >> 20,
        "memory_mib": {name: [each / 2**20 for each in pair] for name, pair in pairs.items()},
        "memory_samples": samples,
        "metrics_at_the_end": dict(idle),
        "checks": [{**dataclasses.asdict(check), "holds": check.holds} for check in checks],
    }


async def _sample(server: Server, samples: list[dict[str, Any]], began: float, interval: float) -> None:
    while True:
        sizes = {name: round(size / 2**20, 1) for name, size in memory(server).items()}
        samples.append({"seconds": round(time.monotonic() - began), **sizes})
        await asyncio.sleep(interval)


async def _rest(address: Address) -> dict[str, float]:
    """/metrics as soon as nobody is being answered, or when the server does not come to rest."""
    deadline = time.monotonic() + REST_S
    while True:
        metrics = await read_metrics(address)
        if all(metrics[name] <= most for name, most in AT_REST.items()) or time.monotonic() > deadline:
            return {name: value for name, value in metrics.items() if "_bucket" not in name and "_created" not in name}
        await asyncio.sleep(0.1)


def _counts(siege: Siege) -> dict[str, Any]:
    visits = siege.visits
    return {
        "requests": len(visits),
        "by_kind": dict(Counter(visit.question.kind for visit in visits).most_common()),
        "by_manner": dict(Counter(visit.question.manner for visit in visits).most_common()),
        "by_status": {str(status): count for status, count in Counter(visit.status for visit in visits).most_common()},
        "by_end": dict(Counter(visit.end for visit in visits).most_common()),
    }


def _kill(crowd: Crowd, kill: Kill) -> dict[str, Any]:
    ends = killed_in_flight(crowd.visits, kill)
    return {"away_s": kill.ended - kill.began, "in_flight": len(kill.in_flight), "ends": dict(ends.most_common())}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, metavar="DIR", help="an artifact; the demo model by default")
    parser.add_argument("--cache", type=Path, default=cache.DEFAULT, help="where the demo model is, or is put")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--kill", type=int, default=0, metavar="N", help="kill the engine N times")
    parser.add_argument("--log", type=Path, metavar="FILE", help="where the server's log is kept")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args(words)
    model = arguments.model or setup_demo.artifact(arguments.cache.resolve())
    seconds = 60 * arguments.minutes
    with (
        arguments.log.open("w+") if arguments.log else tempfile.NamedTemporaryFile(suffix=".log") as log,
        closing(ilmari_server(model, FLAGS, log=log)) as server,
    ):
        result = asyncio.run(besiege(server, model, seconds, arguments.kill, Path(log.name)))
    name = "killed" if arguments.kill else "steady"
    kept = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    arguments.output.write_text(json.dumps(kept | {name: result}, indent=2) + "\n")
    for check in result["checks"]:
        print(f"{'holds' if check['holds'] else 'DOES NOT HOLD'}: {check['what']}", *check["against"], sep="\n    ")
    sys.exit(not all(check["holds"] for check in result["checks"]))


if __name__ == "__main__":
    main()
