"""Ranks as processes: the same answers as one rank, from every way to start them, and nothing left of them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import CompileTiny
from marked import Mark
from needs_mpi import mpiexec, needs_mpi

from ilmari import LLM, SamplingParams
from ilmari.engine.client import EngineClient, EngineDead
from ilmari.engine.options import EngineOptions
from ilmari.errors import ConfigError, RequestError

pytestmark = needs_mpi

HERE = Path(__file__).parent
PROMPTS = [[1, 5, 9], [1, 70, 104, 7, 20, 33]]
GREEDY = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True, logprobs=2)

WITHIN = 10.0
"""Seconds from a rank's end to that of all others."""


@pytest.fixture(scope="module")
def shared_by_two(compile_tiny: CompileTiny) -> Path:
    return compile_tiny("w8a16", tp=2)


@pytest.fixture(scope="module")
def alone(compile_tiny: CompileTiny) -> LLM:
    return LLM(compile_tiny("w8a16"))


def test_two_processes_answer_as_one(shared_by_two: Path, alone: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = Mark()
    for name, value in mark.environment.items():
        monkeypatch.setenv(name, value)
    mine = os.getpid()
    llm = LLM(shared_by_two, kv_cache_memory_bytes=1 << 16)
    for want, got in zip(alone.generate(PROMPTS, GREEDY), llm.generate(PROMPTS, GREEDY), strict=True):
        assert got.outputs[0].token_ids == want.outputs[0].token_ids
        assert len(got.outputs[0].logprobs or ()) == 24
    want_logits = alone.logits(PROMPTS[1])
    assert np.abs(llm.logits(PROMPTS[1]) - want_logits).max() < 2e-3 * np.ptp(want_logits)
    assert llm.engine.logits(PROMPTS[1], last=2).shape == (2, want_logits.shape[1])

    with pytest.raises(RequestError, match="is empty"):
        llm.generate([[]])
    with pytest.raises(RequestError, match="KV blocks"):
        llm.generate([1] * 128, SamplingParams(max_tokens=4096))
    streamed = llm.stream(PROMPTS[0], GREEDY)
    next(streamed)
    streamed.close()
    assert (
        llm.generate([PROMPTS[0]], GREEDY)[0].outputs[0].token_ids
        == alone.generate([PROMPTS[0]], GREEDY)[0].outputs[0].token_ids
    )
    check_interruptions(llm, monkeypatch)
    assert set(mark.ranks()) == {0, 1}
    llm.engine.close()
    assert set(mark.processes()) <= {mine}


def check_interruptions(llm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes of a request that a key ended is not taken for another's; nor is what a closed one leaves."""
    want, want_tokens = llm.logits(PROMPTS[1]), llm.generate(PROMPTS[0], GREEDY)[0].outputs[0].token_ids

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for ask in (lambda: llm.logits(PROMPTS[0] * 9), lambda: llm.generate(PROMPTS[1], GREEDY)):
        with monkeypatch.context() as patch:
            patch.setattr(type(llm.engine), "_receive", interrupt)
            with pytest.raises(KeyboardInterrupt):
                ask()
        np.testing.assert_array_equal(llm.logits(PROMPTS[1]), want)
        assert llm.generate(PROMPTS[0], GREEDY)[0].outputs[0].token_ids == want_tokens
    pieces = llm.engine.stream_logits(PROMPTS[0])
    next(pieces)
    pieces.close()
    np.testing.assert_array_equal(llm.logits(PROMPTS[1]), want)


def ilmari(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ilmari", *arguments]


def test_an_outer_mpiexec(shared_by_two: Path, alone: LLM) -> None:
    command = ilmari("generate", "--model", str(shared_by_two), "--prompt-token-ids", "1,5,9", "--json")
    options = ["--max-tokens", "24", "--temperature", "0", "--ignore-eos"]
    done = subprocess.run([*mpiexec(2), *command, *options], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["token_ids"] == alone.generate([PROMPTS[0]], GREEDY)[0].outputs[0].token_ids
    assert done.stderr == ""


def test_nothing_is_pickled(shared_by_two: Path) -> None:
    command = [sys.executable, str(HERE / "without_pickle.py"), "generate", "--model", str(shared_by_two)]
    options = ["--prompt-token-ids", "1,5,9", "--max-tokens", "4", "--top-k", "3"]
    done = subprocess.run([*mpiexec(2), *command, *options], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_the_same_devices_again(shared_by_two: Path) -> None:
    again = "import sys; from ilmari import LLM; [LLM(sys.argv[1], devices=each) for each in sys.argv[2:]]"
    command = [*mpiexec(2), sys.executable, "-c", again, str(shared_by_two), "0,1", "0,1", "1,0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "were given devices 0,1 and cannot move to 1,0" in done.stderr


def test_hosts_for_one_rank(compile_tiny: CompileTiny) -> None:
    with pytest.raises(ConfigError, match="runs on one rank"):
        LLM(compile_tiny("w8a16"), hosts="a,b")


def test_a_folder_with_a_long_name(shared_by_two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    with pytest.raises(ConfigError, match="set TMPDIR"):
        LLM(shared_by_two)


def test_an_outer_mpiexec_of_another_size(shared_by_two: Path) -> None:
    command = ilmari("generate", "--model", str(shared_by_two), "--prompt", "x")
    done = subprocess.run([*mpiexec(3), *command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "started 3 ranks and this artifact runs on 2" in done.stderr


FAILING = """
import sys
from ilmari import LLM
from ilmari.engine import ranks

def follow(group):
    raise MemoryError

ranks.follow = follow
LLM(sys.argv[1])
"""


def test_a_rank_that_fails(shared_by_two: Path) -> None:
    command = [*mpiexec(2), sys.executable, "-c", FAILING, str(shared_by_two)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "MemoryError" in done.stderr


INTERRUPTED = """
import sys
from ilmari import LLM
from ilmari.errors import GroupError

def interrupt(*_):
    raise KeyboardInterrupt

llm = LLM(sys.argv[1])
runner = llm.engine._runner
forward, runner.forward = runner.forward, interrupt
for _ in range(2):
    try:
        llm.generate([[1]])
    except (KeyboardInterrupt, GroupError) as error:
        print(type(error).__name__, error, flush=True)
    runner.forward = forward
"""


def test_a_step_that_is_interrupted(shared_by_two: Path) -> None:
    """The other rank cannot leave it; nobody waits for it, nor takes its sums for those of the next one."""
    began = time.monotonic()
    command = [*mpiexec(2), "-disable-auto-cleanup", sys.executable, "-c", INTERRUPTED, str(shared_by_two)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    ended = "GroupError The 2 ranks of this model have ended, since a step failed on rank 0."
    assert done.stdout.splitlines()[:2] == ["KeyboardInterrupt ", ended]
    assert time.monotonic() - began < 30


def test_kernels_of_several_ranks(shared_by_two: Path) -> None:
    command = ilmari("bench", "kernels", "--model", str(shared_by_two))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "error: This artifact runs on 2 ranks and bench kernels on one; use bench latency --profile.\n"
    )


def test_what_the_sums_cost(shared_by_two: Path) -> None:
    command = ilmari("bench", "latency", "--model", str(shared_by_two), "--json", "--profile")
    options = ["--input-len", "16", "--output-len", "4", "--rounds", "1"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["tp"] == 2
    assert 0 < result["all_reduce_fraction"] < 1
    assert 0 < result["prefill_all_reduce_fraction"] < 1
    assert result["all_reduce_ms"] == pytest.approx(result["tpot_ms"] * result["all_reduce_fraction"], rel=0.5)
    kernels = {row["kernel"]: row["calls"] for row in result["profile"]["decode"]["kernels"]}
    assert kernels["all_reduce"] == 5  # after the embedding, and twice in each of two layers


def test_devices_that_are_not_there(shared_by_two: Path) -> None:
    with pytest.raises(ConfigError, match="names 1 devices for 2 ranks"):
        LLM(shared_by_two, devices="0")
    with pytest.raises(ConfigError, match="choose among these"):
        LLM(shared_by_two, devices="0,9")


def start(artifact: Path, mark: Mark) -> tuple[subprocess.Popen[str], dict[int, int]]:
    """A program that generates, and its ranks' processes."""
    program = subprocess.Popen(
        [sys.executable, str(HERE / "answering.py"), str(artifact)],
        env=mark.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    assert json.loads(program.stdout.readline())
    return program, mark.ranks()


@pytest.mark.parametrize(("end", "rank"), [(signal.SIGKILL, 0), (signal.SIGKILL, 1), (signal.SIGSTOP, 0)])
def test_a_rank_that_ends_or_hangs(shared_by_two: Path, end: signal.Signals, rank: int) -> None:
    mark = Mark()
    program, ranks = start(shared_by_two, mark)
    with program:
        began = time.monotonic()
        os.kill(ranks[rank], end)
        words, errors = program.communicate(timeout=60)
        mark.assert_gone(WITHIN - (time.monotonic() - began))
    said = words if rank else errors
    assert f"Rank {rank} on host " in said
    assert f"process {ranks[rank]}" in said
    assert words.count("\n") == 1
    assert "Traceback" not in errors


def test_a_server_s_engine_is_started_again(
    shared_by_two: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mark = Mark()
    for name, value in mark.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("ilmari.engine.client.FIRST_DELAY", 0.01)

    async def tokens(client: EngineClient, name: str, params: SamplingParams) -> list[int]:
        return [token async for delta in client.generate(name, PROMPTS[0], params) for token in delta.token_ids]

    async def use() -> None:
        client = EngineClient(shared_by_two, EngineOptions())
        await client.start()
        try:
            async with asyncio.timeout(120):
                want = await tokens(client, "before", GREEDY)
                victim = mark.ranks()[1]
                os.kill(victim, signal.SIGSTOP)  # so that the reply cannot end before
                running = asyncio.create_task(tokens(client, "during", SamplingParams(max_tokens=250, ignore_eos=True)))
                await asyncio.sleep(0.05)
                os.kill(victim, signal.SIGKILL)
                with pytest.raises(EngineDead):
                    await running
                while client.state != "ready":
                    await asyncio.sleep(0.05)
                assert await tokens(client, "after", GREEDY) == want
        finally:
            await client.close()

    asyncio.run(use())
    assert "Rank 1 on host " in caplog.text


@pytest.mark.parametrize("who", ["program", "launcher", "mpiexec"])
def test_who_is_killed_above_the_ranks(shared_by_two: Path, who: str) -> None:
    mark = Mark()
    program, ranks = start(shared_by_two, mark)
    with program:
        above: dict[str, Callable[[], int]] = {
            "program": lambda: program.pid,
            "launcher": lambda: parent(parent(parent(parent(ranks[0])))),
            "mpiexec": lambda: parent(parent(parent(ranks[0]))),
        }
        os.kill(above[who](), signal.SIGKILL)
        mark.assert_gone(WITHIN)
        program.communicate()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_idle_ranks_rest(shared_by_two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = Mark()
    for name, value in mark.environment.items():
        monkeypatch.setenv(name, value)
    llm: Any = LLM(shared_by_two)
    llm.generate(PROMPTS, GREEDY)
    ranks = mark.ranks()
    before, began = {rank: cpu_seconds(pid) for rank, pid in ranks.items()}, time.monotonic()
    time.sleep(3)
    took = time.monotonic() - began
    for rank, pid in ranks.items():
        assert cpu_seconds(pid) - before[rank] < 0.02 * took, f"rank {rank}"
    llm.engine.close()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
