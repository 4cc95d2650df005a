"""Ranks on two hosts: over TCP between them; and what cuts them off from each other ends all, with its name."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from checkpoints import CompileTiny
from marked import Mark
from needs_mpi import needs_mpi
from two_hosts import HOSTS, TwoHosts, two_hosts

pytestmark = needs_mpi

HERE = Path(__file__).parent
WITHIN = 10.0
"""Seconds from what happens to the end of all ranks."""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHosts]:
    with two_hosts(tmp_path_factory.mktemp("hosts")) as both:
        yield both


@pytest.mark.parametrize("what", ["killed", "stopped", "cut off"])
def test_a_rank_on_another_host(compile_tiny: CompileTiny, hosts: TwoHosts, what: str) -> None:
    mark = Mark()
    artifact = compile_tiny("w8a16", tp=2)
    before = hosts.received()
    with subprocess.Popen(
        hosts.on_first(sys.executable, str(HERE / "answering.py"), str(artifact), ",".join(HOSTS)),
        env=mark.environment | hosts.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        answer = program.stdout.readline()
        assert answer, program.stderr.read() if program.stderr else ""
        assert len(json.loads(answer)) == 100
        # 100 steps, each with 5 sums of a row of floats, went over the cable.
        assert hosts.received() - before > 100 * 5 * 4 * 64
        pid = mark.ranks()[1]
        do: dict[str, Callable[[], None]] = {
            "killed": lambda: os.kill(pid, signal.SIGKILL),
            "stopped": lambda: os.kill(pid, signal.SIGSTOP),
            "cut off": hosts.cut,
        }
        began = time.monotonic()
        do[what]()
        words, errors = program.communicate(timeout=60)
        mark.assert_gone(WITHIN - (time.monotonic() - began))
        print(f"\n{what}: all gone after {time.monotonic() - began:.1f} s: {words.strip()}")
    assert f"Rank 1 on host {HOSTS[1]}, process {pid}, " in words
    assert "Traceback" not in errors
