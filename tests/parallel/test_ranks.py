"""Ranks that share a model, as threads, beside one rank that has all of it: the same logits and the same text."""

import platform
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from checkpoints import GROUPED_SIZES, CompileTiny
from thread_ranks import ThreadGroup, thread_ranks

from ilmari import LLM, SamplingParams
from ilmari.artifact.artifact import Artifact
from ilmari.engine.engine import Engine
from ilmari.errors import ArtifactError

pytestmark = pytest.mark.usefixtures("one_linear_kernel")

AVX2, GENERIC = ("haswell", "x86-64") if platform.machine() == "x86_64" else ("host", "host")
VOCAB = 331

# Largest differences, as shares of the logits' range. One layer in float32: its keys and values have the same bits, as
# their inputs are not split, so all that differs is the order of some hundred additions, each of which rounds by up to
# 2**-24 of a partial sum. In a second layer a key or value that lies between two float16 numbers may fall on the other.
ONE_LAYER = 2e-6
FLOATS = 1e-4
# A rank rounds its part of a row to 16 bits by the part's own largest number, and not by that of the whole row.
A16 = 4e-4
# What differs in the last bit of a float may round to the next of 255 levels, and so do others behind it: what is left
# is a share of what 8 bits cost anyway. A token may change places with a rival that is nearer than the largest error.
A8 = 5e-3

NTK = {"rope_scaling": {"type": "dynamic", "factor": 2.5}, "max_position": 64}
TINY: dict[str, Any] = {"heads": 6, "kv_heads": 2, "vocab": 333}

# Every precision of weights, activations and cache. Query heads per KV head 1, 2, 3, 4 and 8; KV heads that do not
# divide, and fewer than there are ranks. Kernels of lesser CPUs are compiled sooner.
CASES: list[tuple[str, str, dict[str, Any], int, float]] = [
    ("fp16", "host", GROUPED_SIZES["1-per-kv"], 2, ONE_LAYER),
    ("bf16", AVX2, GROUPED_SIZES["2-per-kv"], 8, ONE_LAYER),
    ("fp16", GENERIC, GROUPED_SIZES["3-per-kv"], 4, FLOATS),
    ("fp16", GENERIC, GROUPED_SIZES["3-per-kv"] | NTK, 4, FLOATS),
    ("w8a16_kv8", GENERIC, GROUPED_SIZES["4-per-kv"] | {"layers": 1}, 4, ONE_LAYER),
    ("w16kv8", AVX2, GROUPED_SIZES["8-per-kv"], 8, ONE_LAYER),
    ("w8a16", AVX2, GROUPED_SIZES["3-per-kv"], 2, A16),
    ("w8a8_kv8", "host", TINY, 2, A8),
]


@pytest.fixture(autouse=True)
def ranks() -> Iterator[None]:
    with thread_ranks():
        yield


@pytest.mark.parametrize(("scheme", "target", "sizes", "tp", "tolerance"), CASES)
def test_logits_and_text(
    compile_tiny: CompileTiny, scheme: str, target: str, sizes: dict[str, Any], tp: int, tolerance: float
) -> None:
    one, several = (LLM(compile_tiny(scheme, target, tp=ranks, **sizes)) for ranks in (1, tp))
    prompt = tokens(150, 0)
    want = one.logits(prompt)
    error = float(np.abs(several.logits(prompt) - want).max() / np.ptp(want))
    print(f"\n{scheme} {sizes['heads']}/{sizes['kv_heads']} tp {tp}: logit error {error:.1e} of the range")
    assert error < tolerance

    prompts = [tokens(length, length) for length in (1, 16, 40, 100)]
    greedy = SamplingParams(temperature=0, max_tokens=64, ignore_eos=True)
    texts = [[output.outputs[0].token_ids for output in llm.generate(prompts, greedy)] for llm in (one, several)]
    for text, prompt, other in zip(texts[0], prompts, texts[1], strict=True):
        assert text == other or (tolerance == A8 and shortfall(one, several, prompt, text, other) < error)


def shortfall(one: LLM, several: LLM, prompt: list[int], text: list[int], other: list[int]) -> float:
    """How far one rank's logits have several ranks' choice below the best at most, as a share of their range.

    At each of the text's places: in the other text up to where it parts, by their logits after the first text from
    there on.
    """
    rows, theirs = (llm.logits([*prompt, *text[:-1]])[len(prompt) - 1 :] for llm in (one, several))
    parts = next(place for place, (a, b) in enumerate(zip(text, other, strict=True)) if a != b)
    choices = np.array([*other[: parts + 1], *theirs[parts + 1 :].argmax(axis=1)])
    below = rows.max(axis=1) - rows[np.arange(len(text)), choices]
    different = (choices != text).sum()
    print(f"texts part at {parts}; {different} of {len(text)} differ, {below.max() / np.ptp(rows):.1e} below the best")
    return float(below.max() / np.ptp(rows))


@pytest.mark.parametrize("tp", [2, 4, 8])
@pytest.mark.parametrize("q_per_kv", [1, 2, 3, 4, 8])
def test_logits_of_every_grouping(compile_tiny: CompileTiny, q_per_kv: int, tp: int) -> None:
    """One KV head, of which ranks have copies with some of its query heads each, or none; so few sizes that many ranks
    have the same kernels."""
    sizes = {"heads": q_per_kv, "kv_heads": 1, "head_dim": 32, "hidden": 64, "intermediate": 72, "layers": 1}
    one, several = (LLM(compile_tiny("fp16", GENERIC, tp=ranks, **sizes)) for ranks in (1, tp))
    prompt = tokens(40, 0)
    want = one.logits(prompt)
    assert np.abs(several.logits(prompt) - want).max() < ONE_LAYER * np.ptp(want)


def tokens(count: int, seed: int) -> list[int]:
    ids: list[int] = np.random.default_rng(seed).integers(0, VOCAB, count).tolist()
    return ids


@pytest.fixture
def llm(compile_tiny: CompileTiny) -> LLM:
    return LLM(compile_tiny("fp16", GENERIC, tp=4, **GROUPED_SIZES["3-per-kv"]))


def test_a_load_that_fails_on_rank_0(compile_tiny: CompileTiny, llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others forget it, and load what comes next."""
    assert isinstance(llm.engine, Engine)
    group = llm.engine._runner._group
    artifact = Artifact.load(compile_tiny("fp16", GENERIC, tp=4, **GROUPED_SIZES["3-per-kv"]))
    with monkeypatch.context() as patch:
        patch.setattr("ilmari.engine.engine.StepSampler", refuse)
        with pytest.raises(ArtifactError, match="no such vocabulary"):
            Engine(artifact, group=group)
    again = Engine(artifact, group=group)
    np.testing.assert_array_equal(again.logits(tokens(20, 0)), llm.logits(tokens(20, 0)))


def refuse(*_: object) -> None:
    raise ArtifactError("no such vocabulary")


def gathered(llm: LLM, **params: Any) -> set[int]:
    """Bytes that rank 0 gathers for one token."""
    assert isinstance(llm.engine, Engine)
    group = llm.engine._runner._group
    assert isinstance(group, ThreadGroup)
    group.shared.gathered.clear()
    llm.generate([tokens(20, 0)], SamplingParams(max_tokens=4, ignore_eos=True, **params))
    return set(group.shared.gathered)


def test_what_is_gathered(llm: LLM) -> None:
    """Of four ranks a token and its logit each, or the best so many of them, or whole rows."""
    whole = 4 * 83 * 4
    assert gathered(llm, temperature=0) == {4 * 8}
    assert gathered(llm, top_k=5) == {4 * 5 * 8}
    assert gathered(llm, top_k=300) == {whole}
    assert gathered(llm, top_p=0.5) == {whole}
    assert gathered(llm, temperature=0, logprobs=3) == {whole}


def test_a_batch_of_every_kind(llm: LLM) -> None:
    """Sequences of one step that need different parts of their rows: each gets what it gets alone."""
    kinds = [
        SamplingParams(temperature=0, max_tokens=12, ignore_eos=True),
        SamplingParams(top_k=5, seed=1, max_tokens=12, ignore_eos=True),
        SamplingParams(top_p=0.9, seed=2, max_tokens=12, ignore_eos=True),
        SamplingParams(top_k=20, min_p=0.01, seed=3, max_tokens=12, ignore_eos=True),
        SamplingParams(temperature=0, repetition_penalty=1.3, logprobs=2, max_tokens=12, ignore_eos=True),
    ]
    prompts = [tokens(10 + 7 * place, place) for place in range(len(kinds))]
    alone = [llm.generate([prompt], params)[0].outputs[0] for prompt, params in zip(prompts, kinds, strict=True)]
    together = [output.outputs[0] for output in llm.generate(prompts, kinds)]
    assert [each.token_ids for each in together] == [each.token_ids for each in alone]
    assert [each.logprobs for each in together] == [each.logprobs for each in alone]
