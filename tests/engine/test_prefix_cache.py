"""Blocks of the KV cache that are found again: the same answers, sooner, and never somebody else's blocks."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from checkpoints import CompileTiny

from ilmari import SamplingParams
from ilmari.artifact.artifact import Artifact
from ilmari.engine.engine import Engine
from ilmari.engine.opening import open_engine
from ilmari.engine.options import EngineOptions, Placement
from ilmari.engine.prefix_chain import PrefixChain
from ilmari.engine.sequence import Sequence

INTEGERS = [("w8a16", 2), ("w8a8", 1), ("w8a16_kv8", 1)]
GREEDY = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True, logprobs=3)
SEEDED = replace(GREEDY, temperature=1.5, repetition_penalty=1.1, seed=11)
PROMPT: list[int] = np.random.default_rng(7).integers(3, 333, 100).tolist()

pytestmark = pytest.mark.usefixtures("ranks_as_threads")


@pytest.fixture(scope="module", params=[1, 2], ids="tp{}".format)
def artifact(request: pytest.FixtureRequest, compile_tiny: CompileTiny) -> Artifact:
    return Artifact.open(compile_tiny("w8a16", tp=request.param))


def open_with(artifact: Artifact, **options: Any) -> Engine:
    engine = open_engine(artifact, EngineOptions(**options), Placement())
    assert isinstance(engine, Engine)
    return engine


def run(engine: Engine, *prompts: list[int], params: SamplingParams = GREEDY, cache_salt: str = "") -> list[Sequence]:
    sequences = [engine.add(prompt, params, frozenset(), cache_salt=cache_salt) for prompt in prompts]
    while engine.has_work:
        engine.step()
    assert engine.stats().kv_blocks_used == 0
    return sequences


def answer(sequence: Sequence) -> tuple[object, ...]:
    """With every bit of its logprobs."""
    return sequence.output, sequence.logprobs


@pytest.mark.parametrize(("scheme", "ranks"), INTEGERS)
@pytest.mark.parametrize("params", [GREEDY, SEEDED], ids=["greedy", "seeded"])
@pytest.mark.parametrize("length", [1, 16, 17, 31, 32, 33, 100])
def test_a_prefix_that_is_found_changes_no_bit(
    compile_tiny: CompileTiny, scheme: str, ranks: int, params: SamplingParams, length: int
) -> None:
    artifact = Artifact.open(compile_tiny(scheme, tp=ranks))
    (want,) = run(open_with(artifact, enable_prefix_caching=False), PROMPT[:length], params=params)
    engine = open_with(artifact)
    (first,) = run(engine, PROMPT[:length], params=params)
    (second,) = run(engine, PROMPT[:length], params=params)
    assert answer(first) == answer(second) == answer(want)
    assert (want.cached_tokens, first.cached_tokens) == (0, 0)
    assert second.cached_tokens == (length - 1) // 16 * 16
    stats = engine.stats()
    assert (stats.prefix_queries, stats.prefix_hits) == (2 * length, second.cached_tokens)


def test_a_prompt_is_computed_from_where_it_differs_on(artifact: Artifact) -> None:
    engine = open_with(artifact)
    other = PROMPT.copy()
    other[50] += 1
    run(engine, PROMPT)
    (sequence,) = run(engine, other)
    assert sequence.cached_tokens == 48
    (want,) = run(open_with(artifact, enable_prefix_caching=False), other)
    assert answer(sequence) == answer(want)


def test_sequences_share_blocks_while_they_run(artifact: Artifact) -> None:
    engine = open_with(artifact)
    first = engine.add(PROMPT, GREEDY, frozenset())
    engine.step()
    second = engine.add(PROMPT, GREEDY, frozenset())
    engine.step()
    assert second.blocks[:6] == first.blocks[:6]
    assert second.blocks[6] != first.blocks[6]
    assert engine.stats().kv_blocks_used == 8
    engine.finish(first, "abort")
    while engine.has_work:
        engine.step()
    (want,) = run(open_with(artifact), PROMPT)
    assert answer(second) == answer(want)


def test_an_answer_is_found_when_the_conversation_goes_on(artifact: Artifact) -> None:
    engine = open_with(artifact)
    (first,) = run(engine, PROMPT[:30])
    (second,) = run(engine, [*first.tokens, 5, 6, 7])
    assert second.cached_tokens == 48
    assert len(first.tokens) == 50


def test_salts_isolate(artifact: Artifact) -> None:
    engine = open_with(artifact)
    cached = [run(engine, PROMPT, cache_salt=salt)[0].cached_tokens for salt in ("", "a", "b", "a", "", "\ud800")]
    assert cached == [0, 0, 0, 96, 96, 0]


def test_rotary_bases_isolate(compile_tiny: CompileTiny) -> None:
    """A prompt beyond the trained length has a base of its own, by its length."""
    folder = compile_tiny("w8a16", max_position=64, rope_scaling={"type": "dynamic", "factor": 2.5})
    engine = open_with(Artifact.open(folder))
    lengths = (40, 64, 80, 100, 80, 64)
    assert [run(engine, PROMPT[:length])[0].cached_tokens for length in lengths] == [0, 32, 0, 0, 64, 48]


def test_what_was_cached_gives_way_to_what_is_needed(artifact: Artifact) -> None:
    """Eight blocks; other prompts need them all."""
    block_bytes = 16 * artifact.manifest.plan.kv_bytes_per_token
    engine = open_with(artifact, kv_cache_memory_bytes=8 * block_bytes)
    other: list[int] = np.random.default_rng(8).integers(3, 333, 100).tolist()
    prompts = (PROMPT, PROMPT, other, PROMPT)
    assert [run(engine, prompt)[0].cached_tokens for prompt in prompts] == [0, 96, 0, 0]
    engine.logits(other)
    assert run(engine, PROMPT)[0].cached_tokens < 96


def test_a_name_says_all_that_a_block_depends_on() -> None:
    tokens, angles = list(range(48)), np.ones(4, np.float32)
    chain = PrefixChain("", angles)
    two = chain.names(tokens[:32], 2)
    assert chain.names(tokens, 3)[:2] == two
    assert PrefixChain("", angles).names(tokens, 3) == chain.names(tokens, 3)
    others = [
        PrefixChain("a", angles).names(tokens, 3),
        PrefixChain("", angles * np.float32(1.0000001)).names(tokens, 3),
        PrefixChain("", angles).names([7, *tokens[1:]], 3),
    ]
    every = [*chain.names(tokens, 3), *(name for names in others for name in names)]
    assert len(set(every)) == len(every) == 12
