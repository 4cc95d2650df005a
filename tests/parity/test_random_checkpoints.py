"""Compiled random checkpoints against transformers, on every instruction set that this machine can run."""

import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from checkpoints import GROUPED_SIZES, canonical_weights, write_checkpoint

from ilmari import LLM, SamplingParams

pytest.importorskip("torch")
pytest.importorskip("transformers")

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

pytestmark = pytest.mark.torch

TOLERANCE = 4e-4  # of the logits' range: what keys, values and (on VNNI) activations of 16 bits leave
BFLOAT16_TOLERANCE = 6e-3  # and what is left where prompts are multiplied in bfloat16

ISA_OF_TARGET = {"host": None, "haswell": "avx2", "x86-64": "generic"}

# Every shape here and on another target, and every precision on every target. Pairs of a shape and a target are the
# kernels' own tests' affair. On other targets than this machine the tests of ranks have the same models but for one,
# which are then compiled once for both.
CASES = [
    ("1-per-kv", "fp16", "host"),
    ("1-per-kv", "bf16", "haswell"),
    ("2-per-kv", "bf16", "host"),
    ("2-per-kv", "fp16", "haswell"),
    ("3-per-kv", "w8a16", "host"),
    ("3-per-kv", "w8a16", "haswell"),
    ("3-per-kv", "fp16", "x86-64"),
    ("4-per-kv", "w8a16", "host"),
    ("4-per-kv", "w8a16", "x86-64"),
    ("8-per-kv", "fp16", "host"),
    ("8-per-kv", "bf16", "x86-64"),
]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    shape, precision, target = request.param
    return shape, precision, target


@pytest.fixture(scope="module")
def sizes(case: tuple[str, str, str]) -> dict[str, Any]:
    return GROUPED_SIZES[case[0]]


@pytest.fixture(scope="module")
def scheme(case: tuple[str, str, str]) -> str:
    return case[1]


@pytest.fixture(scope="module")
def reference(sizes: dict[str, Any], scheme: str, tmp_path_factory: pytest.TempPathFactory) -> "LlamaForCausalLM":
    """In float32, with the weights as published, or rounded here by other expressions than the compiler's."""
    from demo_model import llama_from_checkpoint
    from reference import replace_weights, rounded_to_bfloat16, rounded_to_int8

    folder = write_checkpoint(tmp_path_factory.mktemp("checkpoint"), **sizes)
    model = llama_from_checkpoint(folder)
    if rounded := {"w8a16": rounded_to_int8, "bf16": rounded_to_bfloat16}.get(scheme):
        replace_weights(model, rounded(canonical_weights(folder)))
    return model


@pytest.fixture(scope="module")
def llm(case: tuple[str, str, str], sizes: dict[str, Any], scheme: str, compile_tiny: Callable[..., Path]) -> LLM:
    target = case[2]
    isa = ISA_OF_TARGET[target]
    if isa and platform.machine() != "x86_64":
        pytest.skip(f"{target} is an x86-64 CPU and this machine is {platform.machine()}")
    llm = LLM(compile_tiny(scheme, target, lengths=(256, 384), **sizes))
    assert isa in (None, llm.manifest.isa)
    return llm


def test_logits_and_greedy_continuations(
    llm: LLM,
    reference: "LlamaForCausalLM",
    sizes: dict[str, Any],
    record_property: Callable[[str, object], None],
) -> None:
    """Greedy texts are the reference's own, but for a token whose rival is nearer than the largest logit error."""
    from reference import error_of_range, reference_logits, shortfalls

    rng, vocab = np.random.default_rng(7), sizes["vocab"]
    ids = rng.integers(0, vocab, 203).tolist()
    want = reference_logits(reference, ids)
    error = error_of_range(llm.logits(ids), want)

    prompts = [rng.integers(0, vocab, length).tolist() for length in (1, 2, 3, 7, 15, 16, 17, 33, 64, 100)]
    outputs = llm.generate(prompts, SamplingParams(temperature=0, max_tokens=64, ignore_eos=True))
    continuations = [output.outputs[0].token_ids for output in outputs]
    gaps = shortfalls(reference, prompts, continuations)
    identical = int((gaps == 0).all(axis=1).sum())
    record_property("logit_error_of_range", error)
    record_property("identical_continuations", identical)
    print(f"\n{llm.manifest.isa} {llm.manifest.scheme}: logit error {error:.2e} of the range, {identical}/10 identical")
    assert error < (BFLOAT16_TOLERANCE if llm.manifest.plan.bf16_dot else TOLERANCE)
    assert gaps.shape == (10, 64)
    assert gaps.max() < error * np.ptp(want)
