"""Order of arrival, blocks that run out, and prompts that leave room for replies."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from checkpoints import CompileTiny

from ilmari import SamplingParams
from ilmari.artifact.artifact import Artifact
from ilmari.engine import opening
from ilmari.engine.engine import Engine
from ilmari.engine.kv_cache import bytes_for
from ilmari.engine.pace import FIRST, STRETCH, WINDOW, Pace
from ilmari.engine.sequence import Sequence

pytestmark = pytest.mark.usefixtures("ranks_as_threads")

GREEDY = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True, logprobs=2)
SEEDED = replace(GREEDY, temperature=1.5, repetition_penalty=1.1, seed=11)


def prompt_of(length: int) -> list[int]:
    ids: list[int] = np.random.default_rng(length).integers(3, 333, length).tolist()
    return ids


@pytest.fixture(scope="module", params=[("w8a16", 1), ("w8a8_kv8", 1), ("w8a16", 2)], ids="{0[0]}-tp{0[1]}".format)
def artifact(request: pytest.FixtureRequest, compile_tiny: CompileTiny) -> Artifact:
    scheme, ranks = request.param
    return Artifact.load(compile_tiny(scheme, tp=ranks))


def engine_of(artifact: Artifact, blocks: int | None = None, **limits: Any) -> Engine:
    memory = None if blocks is None else blocks * bytes_for(artifact.manifest, 1)
    group = opening.form(artifact.manifest.tp)
    return Engine(artifact, kv_cache_memory_bytes=memory, group=group, **limits)


def run(engine: Engine, lengths: list[int], params: SamplingParams) -> list[Sequence]:
    sequences = [engine.add(prompt_of(length), params, frozenset()) for length in lengths]
    while engine.has_work:
        engine.step()
    assert engine.stats().kv_blocks_used == 0
    return sequences


@pytest.mark.parametrize("params", [GREEDY, SEEDED], ids=["greedy", "seeded"])
@pytest.mark.parametrize("limits", [{}, {"max_num_batched_tokens": 16}, {"enable_prefix_caching": False}], ids=str)
def test_preempted_sequences_give_the_same_answers(
    artifact: Artifact, params: SamplingParams, limits: dict[str, Any]
) -> None:
    """Ten blocks, of which each sequence has five in the end: bit by bit what there is with enough of them."""
    lengths = [33, 30, 40, 17, 1, 36]
    want = run(engine_of(artifact, 100, num_speculative_tokens=0), lengths, params)
    small = engine_of(artifact, 10, **limits)
    got = run(small, lengths, params)
    assert [(one.output, one.logprobs) for one in got] == [(one.output, one.logprobs) for one in want]
    assert small.stats().preemptions == sum(one.preemptions for one in got) >= 1
    assert got[0].preemptions == 0
    assert {one.preemptions for one in want} == {0}


def test_sequences_end_in_order_of_arrival_whatever_is_preempted(artifact: Artifact) -> None:
    """Equal ones; the latest gives way."""
    engine = engine_of(artifact, 7)
    sequences = [engine.add(prompt_of(length), GREEDY, frozenset()) for length in (30, 31, 32, 29)]
    ended: list[Sequence] = []
    while engine.has_work:
        running = [one for one in sequences if one.blocks]
        assert running == [one for one in sequences if not one.finish_reason][: len(running)]
        ended += [one for one in engine.step() if one.finish_reason]
    assert ended == sequences
    assert engine.stats().preemptions > 0


def test_one_sequence_can_have_the_whole_cache(artifact: Artifact) -> None:
    engine = engine_of(artifact, 8)
    params = replace(GREEDY, max_tokens=None)
    sequences = run(engine_of(artifact, 16), [100, 90], params)
    assert [len(one.tokens) for one in sequences] == [256, 256]
    sequences = run(engine, [100, 100], replace(GREEDY, max_tokens=28))
    assert sequences[0].output == sequences[1].output == run(engine_of(artifact, 16), [100], GREEDY)[0].output[:28]


def rows_of(engine: Engine, sequences: list[Sequence]) -> list[int]:
    before = [one.computed for one in sequences]
    engine.step()
    return [one.computed - computed for one, computed in zip(sequences, before, strict=True)]


def test_a_prompt_leaves_half_of_a_step_to_shorter_ones(artifact: Artifact) -> None:
    engine = engine_of(artifact, max_num_batched_tokens=32)
    sequences = [engine.add(prompt_of(length), GREEDY, frozenset()) for length in (100, 50, 12, 101)]
    assert rows_of(engine, sequences) == [16, 4, 12, 0]
    assert rows_of(engine, sequences) == [16, 15, 1, 0]
    assert rows_of(engine, sequences) == [16, 15, 1, 0]


def test_of_equal_prompts_the_first_is_read_first(artifact: Artifact) -> None:
    engine = engine_of(artifact, max_num_batched_tokens=32)
    sequences = [engine.add(prompt_of(100)[:64], GREEDY, frozenset(), cache_salt=salt) for salt in "ab"]
    assert [rows_of(engine, sequences) for _ in range(3)] == [[32, 0], [32, 0], [1, 31]]


def test_a_prompt_is_read_slowly_while_replies_wait_unless_throughput_counts(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def step(engine: Engine, sequences: list[Sequence]) -> list[int]:
        """A step of n rows takes max(10, n) seconds."""
        nonlocal now
        before = [one.computed for one in sequences]
        forward = engine._runner.forward

        def timed(batch: Any, cache: Any) -> Any:
            nonlocal now
            now += max(10, batch.rows)
            return forward(batch, cache)

        with monkeypatch.context() as patch:
            patch.setattr(engine._runner, "forward", timed)
            engine.step()
        return [one.computed - computed for one, computed in zip(sequences, before, strict=True)]

    monkeypatch.setattr("ilmari.engine.engine.time.perf_counter", lambda: now)
    for throughput in (True, False):
        engine = engine_of(artifact, throughput=throughput, num_speculative_tokens=0)
        sequences = [engine.add(prompt_of(5), GREEDY, frozenset())]
        for _ in range(3):
            step(engine, sequences)
        sequences.append(engine.add(prompt_of(128), GREEDY, frozenset()))
        steps = [step(engine, sequences) for _ in range(6)]
        if throughput:
            assert steps[0] == [1, 128]
        else:
            # FIRST rows in 10 seconds, so 16 in 20; those in 16, so 20 from then on
            assert steps == [[1, rows - 1] for rows in (FIRST, 16, 20, 20, 20, 20)]


def test_a_prompt_is_read_at_full_speed_when_nobody_waits(artifact: Artifact) -> None:
    engine = engine_of(artifact, throughput=False)
    assert rows_of(engine, [engine.add(prompt_of(128), GREEDY, frozenset())]) == [128]


def step_seconds(rows: int, fixed: float, least: float) -> float:
    """A part that is always there, then as much for each row, and at least the time to read the weights."""
    return max(least, fixed + 0.002 * rows)


@pytest.mark.parametrize("replies", [1, 4, 16])
@pytest.mark.parametrize(("fixed", "least"), [(0.0, 0.010), (0.010, 0.0), (0.010, 0.030)])
def test_pace_finds_the_rows_that_fit(fixed: float, least: float, replies: int) -> None:
    pace, alone = Pace(), step_seconds(replies, fixed, least)
    assert pace.rows(replies) == FIRST
    for _ in range(3):
        pace.take(replies, alone)
    steps = []
    for _ in range(40):
        rows = max(replies + 1, pace.rows(replies))
        steps.append(step_seconds(rows, fixed, least))
        pace.take(rows, steps[-1])
    assert max(steps) <= max(STRETCH * alone, step_seconds(FIRST, fixed, least))
    assert steps[-1] > 0.8 * STRETCH * alone


def test_a_prompt_that_was_once_disturbed_is_no_measure() -> None:
    """The first step of a server may be many times as long as it should, and no step of its size ever come again."""
    pace = Pace()
    pace.take(20, 40 * step_seconds(20, 0.010, 0.030))
    for _ in range(100):
        pace.take(1, step_seconds(1, 0.010, 0.030))
        rows = max(5, pace.rows(1))
        pace.take(rows, step_seconds(rows, 0.010, 0.030))
    assert step_seconds(rows, 0.010, 0.030) == pytest.approx(STRETCH * 0.030, rel=0.1)


@pytest.mark.parametrize("disturbed", [1, 3])
def test_a_disturbed_step_of_few_rows_is_no_measure_of_more(disturbed: int) -> None:
    """Four replies end one after the other, and the process is stopped meanwhile: a step of three took a minute."""
    pace, alone = Pace(), step_seconds(4, 0.010, 0.030)
    pace.take(disturbed, 60.0)
    for _ in range(WINDOW):
        pace.take(4, alone)
    steps = []
    for _ in range(40):
        rows = max(8, pace.rows(4))
        steps.append(step_seconds(rows, 0.010, 0.030))
        pace.take(rows, steps[-1])
    assert 0.8 * STRETCH * alone < steps[-1] <= max(steps) <= STRETCH * alone


def test_pace_knows_what_replies_take_that_never_ran_without_a_prompt() -> None:
    """Under load there is always a prompt: the time of 16 replies is read from the curve."""
    pace = Pace()
    pace.take(512, step_seconds(512, 0.010, 0.030))
    for _ in range(WINDOW):
        pace.take(1, step_seconds(1, 0.010, 0.030))
    for _ in range(40):
        pace.take(pace.rows(16), step_seconds(pace.rows(16), 0.010, 0.030))
    assert 2 < step_seconds(pace.rows(16), 0.010, 0.030) / step_seconds(16, 0.010, 0.030) < 3


def test_a_prompt_alone_says_nothing_about_replies() -> None:
    """The first reply of a server may come while more prompts wait."""
    pace = Pace()
    pace.take(512, step_seconds(512, 0.010, 0.030))
    assert pace.rows(1) == FIRST


def test_one_disturbed_step_does_not_change_the_pace() -> None:
    pace = Pace()
    for _ in range(WINDOW):
        pace.take(1, 0.010)
        pace.take(16, 0.020)
    rows = pace.rows(1)
    assert rows == int(16 * STRETCH * 0.010 / 0.020)
    pace.take(1, 100.0)
    pace.take(16, 100.0)
    assert pace.rows(1) == rows


def test_a_growing_prompt_does_not_slow_the_pace() -> None:
    """Its steps take longer and longer, by the keys that they read, and those of fewer rows were long ago."""
    pace, alone = Pace(), step_seconds(4, 0.0, 0.016)
    pace.take(4, alone)
    steps = []
    for position in range(200):
        rows = pace.rows(4)
        steps.append(step_seconds(rows, 0.0, 0.016) * (1 + position / 400))
        pace.take(rows, steps[-1])
    assert max(steps) < 1.1 * STRETCH * alone
    assert steps[-1] > 0.8 * STRETCH * alone


@pytest.mark.parametrize("slow", [WINDOW, 10 * WINDOW])
def test_a_machine_that_was_slow_for_a_while_is_fast_again(slow: int) -> None:
    pace, alone = Pace(), step_seconds(4, 0.010, 0.030)
    for _ in range(WINDOW):
        pace.take(4, alone)
    for step in range(slow + 10 * WINDOW):
        rows = max(8, pace.rows(4))
        seconds = step_seconds(rows, 0.010, 0.030)
        pace.take(rows, 3 * seconds if 2 * WINDOW <= step < 2 * WINDOW + slow else seconds)
    assert seconds > 0.8 * STRETCH * alone
