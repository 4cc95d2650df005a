"""A server over ranks on their devices: while one is lost it answers 503, then as before; nothing is left of it."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from checkpoints import CompileTiny
from live_server import VASTGENX, LiveServer, wait_until
from marked import Mark
from needs_mpi import needs_mpi

from ilmari.parallel.devices import cpus_for

pytestmark = needs_mpi

WITHIN = 10.0
"""Seconds from a rank's end to that of all others, and to the server's knowledge of it."""

ASK = {"prompt": [1, 5, 9], "max_tokens": 24, "temperature": 0, "ignore_eos": True}


def assert_placed(ranks: dict[int, int]) -> None:
    """Each rank computes on its device, the other way round than by default."""
    placed = {rank: os.sched_getaffinity(pid) for rank, pid in ranks.items()}
    assert placed == {rank: set(cpus_for(["1", "0"], rank)) for rank in range(2)}


def test_a_rank_is_killed(compile_tiny: CompileTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = Mark()
    for name, value in mark.environment.items():
        monkeypatch.setenv(name, value)
    command = [*VASTGENX, "serve", "--model", compile_tiny("w8a16", tp=2), "--port", "0", "--llm_devices", "[1,0]"]
    server = LiveServer(command, tmp_path / "log")
    try:
        want = server.post("/v1/completions", ASK).json["choices"]
        ranks = mark.ranks()
        assert_placed(ranks)
        os.kill(ranks[1], signal.SIGSTOP)  # so that the reply cannot end before
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(server.post, "/v1/completions", ASK)
            time.sleep(0.2)
            os.kill(ranks[1], signal.SIGKILL)
            wait_until(lambda: server.get("/health").status == 503, WITHIN)
            refused = server.post("/v1/completions", ASK)
            assert waiting.result().status == 503
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
        wait_until(lambda: server.get("/health").status == 200)
        assert server.post("/v1/completions", ASK).json["choices"] == want
        assert_placed(mark.ranks())
        assert not set(mark.ranks().values()) & set(ranks.values())
        assert server.metric("ilmari:engine_restarts_total") == 1
        assert f"process {ranks[1]}, has ended: the 2 ranks of this model end." in server.log.read_text()
        server.engines = server.children()
        server.stop()
        mark.assert_gone(WITHIN)
    finally:
        server.kill()
