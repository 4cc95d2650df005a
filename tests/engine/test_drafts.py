"""Drafted tokens: never another text, fewer steps where text repeats itself, and none where they do not pay."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checkpoints import CompileTiny

from ilmari import SamplingParams
from ilmari.artifact.artifact import Artifact
from ilmari.engine.drafter import AHEAD, PAUSE, Drafter
from ilmari.engine.engine import Engine
from ilmari.engine.opening import open_engine
from ilmari.engine.options import EngineOptions, Placement
from ilmari.engine.sequence import Sequence

GREEDY = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True, logprobs=2)
SEEDED = replace(GREEDY, temperature=0.3, top_p=0.95, repetition_penalty=1.05, seed=3)
PHRASE = np.random.default_rng(1).integers(3, 333, 12).tolist()
PROMPTS = {
    "repetitive": PHRASE * 5,
    "random": np.random.default_rng(2).integers(3, 333, 60).tolist(),
    "one token": [9],
}

pytestmark = pytest.mark.usefixtures("one_linear_kernel", "ranks_as_threads")


def run(
    artifact: Artifact, prompts: list[list[int]], params: SamplingParams, drafts: int
) -> tuple[Engine, list[Sequence], int]:
    engine = open_engine(artifact, EngineOptions(num_speculative_tokens=drafts), Placement())
    assert isinstance(engine, Engine)
    sequences = [engine.add(prompt, params, frozenset()) for prompt in prompts]
    steps = 0
    while engine.has_work:
        engine.step()
        steps += 1
    return engine, sequences, steps


@pytest.mark.parametrize("params", [GREEDY, SEEDED], ids=["greedy", "seeded"])
@pytest.mark.parametrize(
    "names", [["repetitive"], ["random"], ["one token"], ["repetitive", "one token"]], ids="+".join
)
def test_drafts_change_no_bit(tiny_artifact: Path, params: SamplingParams, names: list[str]) -> None:
    """Not of a token, not of a logprob, in any precision."""
    artifact = Artifact.open(tiny_artifact)
    prompts = [PROMPTS[name] for name in names]
    plain, want, steps = run(artifact, prompts, params, 0)
    drafting, got, fewer = run(artifact, prompts, params, 4)
    assert [(one.output, one.logprobs) for one in got] == [(one.output, one.logprobs) for one in want]
    assert plain.stats().draft_tokens == 0
    stats = drafting.stats()
    assert 0 <= stats.accepted_tokens <= stats.draft_tokens
    if params is GREEDY and names == ["one token"]:  # after which the models soon repeat themselves
        assert stats.accepted_tokens > 0
        assert fewer < steps


@pytest.fixture(scope="module", params=[1, 2], ids="tp{}".format)
def artifact(request: pytest.FixtureRequest, compile_tiny: CompileTiny) -> Artifact:
    return Artifact.open(compile_tiny("w8a16", tp=request.param))


def test_every_step_of_a_loop_brings_five_tokens(artifact: Artifact) -> None:
    """Made to repeat one token, the model writes what is drafted."""
    engine, (sequence,), steps = run(artifact, [[9] * 20], GREEDY, 4)
    stats = engine.stats()
    token = sequence.output[-1]
    if sequence.output[-30:] == [token] * 30:
        assert stats.accepted_tokens >= 20
    assert steps + stats.accepted_tokens == 60


def test_a_draft_ends_with_the_answer(artifact: Artifact) -> None:
    _, (whole,), _ = run(artifact, [PROMPTS["repetitive"]], GREEDY, 4)
    for count in range(1, 12):
        _, (sequence,), _ = run(artifact, [PROMPTS["repetitive"]], replace(GREEDY, max_tokens=count), 4)
        assert sequence.output == whole.output[:count]
        assert sequence.finish_reason == "length"
    stop = whole.output[30]
    _, (stopped,), _ = run(artifact, [PROMPTS["repetitive"]], replace(GREEDY, stop_token_ids=[stop]), 4)
    end = whole.output.index(stop) + 1
    assert (stopped.output, stopped.finish_reason) == (whole.output[:end], "stop")


def test_a_large_batch_is_not_drafted_for(artifact: Artifact) -> None:
    engine, _, _ = run(artifact, [PROMPTS["repetitive"]] * 3, GREEDY, 4)
    assert engine.stats().draft_tokens == 0


def eager() -> Drafter:
    """One whose last draft was long and right."""
    drafter = Drafter()
    drafter.judge([1] * 8, 8, 0)
    return drafter


def test_what_was_drafted() -> None:
    drafter = eager()
    tokens = [5, 6, 7, 8, 9, 5, 6]
    assert drafter.draft(tokens, 4) == [7, 8, 9, 5]
    assert drafter.draft([*tokens, 1], 4) == []
    assert drafter.draft([*tokens, 1, 5, 6], 4) == [1, 5, 6, 1], "the latest of two"
    assert drafter.draft([*tokens, 1, 5, 6, 8, 9, 5, 6], 2) == [1, 5], "the longest of two"
    assert drafter.draft([*tokens, 1, 5, 6, 8, 9, 5, 6], 0) == []


def test_a_draft_runs_into_itself() -> None:
    assert eager().draft([1, 4, 4, 4], 5) == [4] * 5
    assert eager().draft(list(b"abcabcab"), 4) == list(b"cabc")


def test_drafts_are_as_long_as_they_were_right() -> None:
    drafter, tokens, lengths = Drafter(), [1, 2] * 9, []
    for right in (2, 4, 3, 0, 1):
        draft = drafter.draft(tokens, 4)
        lengths.append(len(draft))
        drafter.judge(draft, right, len(tokens))
    assert lengths == [AHEAD, 4, 4, 4, AHEAD]


def test_no_draft_without_two_tokens_that_were_there_before() -> None:
    for tokens in ([1], [1, 1], [1, 2, 3], [1, 2, 1]):
        assert Drafter().draft(tokens, 4) == []


def test_drafts_pause_where_they_fail_and_are_tried_again() -> None:
    drafter, tokens, drafted = Drafter(), [1, 2] * 50, []
    for _ in range(400):
        draft = drafter.draft(tokens, 4)
        tokens = tokens + [1, 2][len(tokens) % 2 :][:1]
        if draft:
            drafted.append(len(tokens))
            drafter.judge(draft, 0, len(tokens))
    assert len(drafted) <= 4 + 400 / PAUSE
    pauses = np.diff(drafted)[4:]
    assert len(pauses) > 8
    assert set(pauses) == {PAUSE + 1}
    for _ in range(60):
        tokens = tokens + [1, 2][len(tokens) % 2 :][:1]
        if draft := drafter.draft(tokens, 4):
            drafter.judge(draft, 4, len(tokens))
    assert all(drafter.draft(tokens, 4) for _ in range(5))


def test_random_text_is_left_alone(artifact: Artifact) -> None:
    """At a high temperature a small vocabulary repeats pairs of tokens by chance, and the guesses are wrong."""
    params = replace(GREEDY, temperature=50.0, max_tokens=190, seed=1)
    engine, _, steps = run(artifact, [PROMPTS["random"]], params, 4)
    assert engine.stats().draft_tokens <= 4 * (4 + 190 / PAUSE)
    assert steps >= 185
