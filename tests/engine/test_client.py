"""The engine behind its client: the same tokens as without it, and what happens when it dies, hangs or refuses."""

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import CompileTiny, assert_one_sentence

from ilmari import LLM, SamplingParams
from ilmari.engine.client import EngineClient, EngineDead
from ilmari.engine.mailbox import Mailbox
from ilmari.engine.messages import Delta
from ilmari.engine.options import EngineOptions
from ilmari.errors import ArtifactError, RequestError

LONG = SamplingParams(temperature=0, max_tokens=200, ignore_eos=True)
PROMPTS = [[1, 70 + index, 104, 7] for index in range(6)]


@pytest.fixture(scope="module")
def artifact(compile_tiny: CompileTiny) -> Path:
    return compile_tiny("w8a16")


@pytest.fixture(autouse=True)
def short_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ilmari.engine.client.FIRST_DELAY", 0.01)


def with_client(artifact: Path, use: Callable[[EngineClient], Awaitable[None]], **options: Any) -> None:
    """Run `use` with a client whose engine has started."""

    async def run() -> None:
        client = EngineClient(artifact, EngineOptions(max_num_seqs=4), **options)
        await client.start()
        try:
            async with asyncio.timeout(60):
                await use(client)
        finally:
            await client.close()
        assert client.state == "dead"

    asyncio.run(run())


async def tokens(client: EngineClient, name: str, prompt: list[int], params: SamplingParams = LONG) -> list[int]:
    return [token async for delta in client.generate(name, prompt, params) for token in delta.token_ids]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def engine_pid(client: EngineClient) -> int:
    assert client.pid is not None
    return client.pid


def test_the_tokens_are_those_of_the_engine_alone(artifact: Path) -> None:
    params = SamplingParams(temperature=0.7, seed=3, max_tokens=40, logprobs=2)
    want = [output.outputs[0] for output in LLM(artifact).generate(PROMPTS, params)]

    async def one(client: EngineClient, name: str, prompt: list[int]) -> Delta:
        deltas = [delta async for delta in client.generate(name, prompt, params)]
        assert [delta.last for delta in deltas] == [False] * (len(deltas) - 1) + [True]
        whole = deltas[0]
        for delta in deltas[1:]:
            whole = whole.followed_by(delta)
        return whole

    async def use(client: EngineClient) -> None:
        # Ctrl-C and a supervisor's signal are the front end's to answer, even if the engine's process gets them.
        os.kill(engine_pid(client), signal.SIGINT)
        os.kill(engine_pid(client), signal.SIGTERM)
        assert client.stats.kv_blocks > 0
        got = await asyncio.gather(*(one(client, str(index), prompt) for index, prompt in enumerate(PROMPTS)))
        for delta, output in zip(got, want, strict=True):
            assert delta.token_ids == output.token_ids
            assert delta.logprobs == output.logprobs
            assert delta.finish_reason == output.finish_reason
        assert client.stats.running == client.stats.waiting == 0

    with_client(artifact, use)


def test_who_leaves_early_frees_the_sequence(artifact: Path) -> None:
    async def use(client: EngineClient) -> None:
        closed = client.generate("closed", PROMPTS[0], LONG)
        await anext(closed)
        os.kill(engine_pid(client), signal.SIGSTOP)
        await closed.aclose()
        cancelled = asyncio.create_task(tokens(client, "cancelled", PROMPTS[1]))
        ended = asyncio.create_task(tokens(client, "ended", PROMPTS[2]))
        await asyncio.sleep(0.01)
        cancelled.cancel()
        client.finish("ended")
        assert await ended == []
        os.kill(engine_pid(client), signal.SIGCONT)
        assert len(await tokens(client, "next", PROMPTS[3])) == 200
        await until(lambda: client.stats.running == client.stats.waiting == client.stats.kv_blocks_used == 0)

    with_client(artifact, use)


def test_what_a_slow_reader_leaves_is_one_delta(artifact: Path) -> None:
    async def use(client: EngineClient) -> None:
        slow = client.generate("slow", PROMPTS[0], LONG)
        first = await anext(slow)
        await until(lambda: client.stats.running == 0)
        second = await anext(slow)
        assert len(first.token_ids) + len(second.token_ids) == 200
        assert second.finish_reason == "length"
        assert [delta async for delta in slow] == []

    with_client(artifact, use)


@pytest.mark.parametrize("prompt", [[], [1, 333], [True], [2**70]])
def test_a_refusal_is_a_delta(artifact: Path, prompt: list[int]) -> None:
    async def use(client: EngineClient) -> None:
        (delta,) = [delta async for delta in client.generate("bad", prompt, LONG)]
        assert delta.error
        assert_one_sentence(RequestError(delta.error))
        assert len(await tokens(client, "good", PROMPTS[0])) == 200

    with_client(artifact, use)


def test_requests_of_a_killed_engine_fail_and_later_ones_succeed(artifact: Path) -> None:
    async def use(client: EngineClient) -> None:
        want = await tokens(client, "before", PROMPTS[0])
        for life in range(2):
            pid = engine_pid(client)
            os.kill(pid, signal.SIGSTOP)  # so that all are in flight
            running = [asyncio.create_task(tokens(client, f"{life} {i}", PROMPTS[i])) for i in range(6)]
            await asyncio.sleep(0.01)
            os.kill(pid, signal.SIGKILL)
            ends = await asyncio.gather(*running, return_exceptions=True)
            assert [type(end) for end in ends] == [EngineDead] * 6
            assert client.state == "dead"
            with pytest.raises(EngineDead):
                await tokens(client, f"{life} too early", PROMPTS[0])
            await until(lambda: client.state == "ready")
            assert engine_pid(client) != pid
            assert client.restarts == life + 1
            assert await tokens(client, f"{life} later", PROMPTS[0]) == want

    with_client(artifact, use)


def test_a_hanging_engine_is_killed_and_an_idle_one_is_not(artifact: Path) -> None:
    async def use(client: EngineClient) -> None:
        pid = engine_pid(client)
        await asyncio.sleep(1)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(EngineDead):
            await tokens(client, "hanging", PROMPTS[0])
        await until(lambda: client.state == "ready")
        assert len(await tokens(client, "later", PROMPTS[0])) == 200

    with_client(artifact, use, step_timeout=0.5)


def test_what_cannot_be_started_says_why(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        EngineClient(tmp_path / "nothing", EngineOptions())
    with pytest.raises(RequestError, match="max_num_seqs is 0"):
        asyncio.run(EngineClient(artifact, EngineOptions(max_num_seqs=0)).start())
    damaged = tmp_path / "damaged"
    shutil.copytree(artifact, damaged)
    params = next((damaged / "params").iterdir())
    content = bytearray(params.read_bytes())
    content[-1] ^= 1
    params.write_bytes(content)
    with pytest.raises(ArtifactError, match="was altered") as caught:
        asyncio.run(EngineClient(damaged, EngineOptions()).start())
    assert_one_sentence(caught.value)


def test_an_engine_of_an_mpi_world_is_not_started_again(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ilmari.engine.client.mpi_world", lambda: (0, 2))

    async def run() -> None:
        client, given_up = EngineClient(artifact, EngineOptions()), asyncio.Event()
        await client.start(given_up.set)
        os.kill(engine_pid(client), signal.SIGKILL)
        async with asyncio.timeout(60):
            await given_up.wait()
        assert client.state == "dead"
        assert client.restarts == 0
        assert "exit code -9" in client.failure
        await client.close()

    asyncio.run(run())


def test_a_mailbox_gives_what_came_before_its_end() -> None:
    async def use() -> None:
        mailbox = Mailbox()
        mailbox.put(Delta("a", [1], cached_tokens=2))
        mailbox.put(Delta("a", [2, 3]))
        mailbox.fail(EngineDead("Gone."))
        assert await mailbox.get() == Delta("a", [1, 2, 3], cached_tokens=2)
        with pytest.raises(EngineDead):
            await mailbox.get()

    asyncio.run(use())
