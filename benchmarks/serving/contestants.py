"""Who can be put under load: servers over HTTP, and engines in workers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import Protocol

from benchmarks.peers.process import Worker
from benchmarks.serving.closed_loop import closed_loop
from benchmarks.serving.processes import awake, pause
from benchmarks.serving.reply import Reply, figures
from benchmarks.serving.servers import Server
from benchmarks.serving.traffic import Traffic


class Contestant(Protocol):
    """Something that answers."""

    def replies(self, traffic: Traffic) -> list[Reply]: ...


class OverHttp:
    """A server, which is stopped whenever it is not its turn: it takes no CPU time then, whatever its threads do."""

    def __init__(self, server: Server, vocab_size: int) -> None:
        self._server = server
        self._vocab_size = vocab_size
        pause(server.pid)

    def replies(self, traffic: Traffic) -> list[Reply]:
        with awake(self._server.pid):
            return asyncio.run(closed_loop(self._server.address, traffic, self._vocab_size))


@dataclass(frozen=True)
class InWorker:
    """An engine in a worker, which waits for a line when it is not its turn."""

    worker: Worker

    def replies(self, traffic: Traffic) -> list[Reply]:
        return [Reply(**reply) for reply in self.worker.ask(asdict(traffic))["replies"]]


def measure(contestant: Contestant, traffic: Traffic) -> dict[str, float]:
    """The figures of all replies, and the CPU time that asking took, as a share of the time."""
    began, used = time.perf_counter(), time.process_time()
    replies = contestant.replies(traffic)
    share = (time.process_time() - used) / (time.perf_counter() - began)
    return {**figures(replies), "client_cpu_share": share}
