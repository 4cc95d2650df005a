"""The engine's process and its front end: nothing is left behind, and one broken sequence harms no other."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import CompileTiny

from ilmari import LLM, SamplingParams
from ilmari.engine.messages import Delta, Submit
from ilmari.engine.sequence import Sequence
from ilmari.engine.step_sampler import StepSampler
from ilmari.engine.worker import Worker
from ilmari.errors import ArtifactError

_FRONT_END = """
import asyncio, sys
from pathlib import Path
from ilmari import SamplingParams
from ilmari.engine.client import EngineClient
from ilmari.engine.options import EngineOptions

async def main():
    client = EngineClient(Path(sys.argv[1]), EngineOptions())
    await client.start()
    print(client.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def tiny_artifact(compile_tiny: CompileTiny) -> Path:
    return compile_tiny("w8a16")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_the_engine_ends_with_its_front_end(tiny_artifact: Path, end: signal.Signals) -> None:
    front = subprocess.Popen(
        [sys.executable, "-c", _FRONT_END, str(tiny_artifact)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with front:
        assert front.stdout is not None
        pid = int(front.stdout.readline())
        os.kill(pid, 0)  # it is there
        front.send_signal(end)
        # The engine's process has the same stderr, so this waits for the end of both.
        _, errors = front.communicate(timeout=2)
    assert errors == b""


def test_a_sequence_without_numbers_ends_alone(new_llm: Callable[..., LLM], monkeypatch: pytest.MonkeyPatch) -> None:
    llm = new_llm()
    worker = Worker(llm.engine, frozenset())
    params = SamplingParams(temperature=0, max_tokens=8)
    for name, prompt in {"good": [1, 5], "bad": [1, 6], "also good": [1, 7]}.items():
        assert worker.submit(Submit(name, prompt, params)) == []
    draw = StepSampler.draw

    def failing(self: StepSampler, row: int, sequence: Sequence, *rest: Any) -> int:
        if sequence.tokens[1] == 6 and len(sequence.output) == 3:
            raise ArtifactError("The logits are no numbers.")
        return draw(self, row, sequence, *rest)

    monkeypatch.setattr(StepSampler, "draw", failing)
    whole = {name: Delta(name) for name in ("good", "bad", "also good")}
    while llm.engine.has_work:
        for delta in worker.step():
            whole[delta.request_id] = whole[delta.request_id].followed_by(delta)
    assert [len(delta.token_ids) for delta in whole.values()] == [8, 3, 8]
    assert [delta.finish_reason for delta in whole.values()] == ["length", "abort", "length"]
    assert [delta.error for delta in whole.values()] == [None, "The logits are no numbers.", None]


def test_a_prompt_that_fills_the_context_ends_at_once(compile_tiny: CompileTiny) -> None:
    llm = LLM(compile_tiny("w8a16", lengths=(256, 256)))
    worker = Worker(llm.engine, frozenset())
    assert worker.submit(Submit("full", [7] * 256, SamplingParams())) == [Delta("full", finish_reason="length")]
    assert not llm.engine.has_work
