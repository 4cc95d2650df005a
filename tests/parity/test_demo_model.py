"""The real demo weights, compiled: logits, greedy texts and perplexity against transformers in float32."""

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from ilmari import LLM, SamplingParams
from ilmari.compile.config import load_config
from ilmari.compile.pipeline import compile_model
from ilmari.demo.recipe import write_recipe

pytestmark = [pytest.mark.demo_model, pytest.mark.shared, pytest.mark.slow]

WINDOW = 1024
TOKENS = 4_096
REFERENCE_PERPLEXITY = 21.19209  # of transformers 5.23 in float32, on the same tokens in the same windows
INT8_REFERENCE_PERPLEXITY = 21.23856  # with its weights rounded to int8, as `reference.rounded_to_int8` does
PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n",
    "Water boils at",
    "To make bread, first",
    "In 1969, two astronauts",
    "The three laws of motion say that",
    "Dear customer,\n\nwe are sorry to hear that",
    "Q: What is 7 times 8?\nA:",
    "1, 1, 2, 3, 5, 8,",
]

Record = Callable[[str, object], None]
CompileDemo = Callable[..., LLM]


@pytest.fixture(scope="module")
def compile_demo(
    demo_checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
    kernels_compiled_once: Path,  # noqa: ARG001
) -> Iterator[CompileDemo]:
    """compile_demo(dtype, activation, scheme): the demo's own recipe, for prompts up to 1,024 tokens."""
    parent = tmp_path_factory.mktemp("artifacts")

    def compile_demo(dtype: str, activation: str | None = None, scheme: str | None = None) -> LLM:
        folder = Path(tempfile.mkdtemp(dir=parent))
        overrides = [f"frontend.quantize.type={scheme}"] if scheme else []
        config = load_config(write_recipe(folder, demo_checkpoint, dtype), overrides, activation)
        return LLM(compile_model(config, report=lambda *_: None))

    yield compile_demo
    shutil.rmtree(parent)


@pytest.fixture(scope="module")
def fp16(compile_demo: CompileDemo) -> LLM:
    return compile_demo("fp16")


@pytest.fixture(scope="module")
def bf16(compile_demo: CompileDemo) -> LLM:
    return compile_demo("bf16")


@pytest.fixture(scope="module")
def int8(compile_demo: CompileDemo) -> LLM:
    return compile_demo("int8")


@pytest.fixture(scope="module")
def wikitext(fp16: LLM, shared: Path) -> list[int]:
    """The first tokens, no bos among them."""
    text = (shared / "data" / "wikitext-2" / "test.txt").read_text(encoding="utf-8-sig")[: 6 * TOKENS]
    ids = fp16.tokenizer.encode(text, add_bos=False)[:TOKENS]
    assert len(ids) == TOKENS
    return ids


@pytest.mark.torch
def test_logits_and_greedy_continuations(
    fp16: LLM, wikitext: list[int], demo_checkpoint: Path, record_property: Record
) -> None:
    """Greedy texts are the reference's own, but for a token whose rival is nearer than the largest logit error."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from demo_model import llama_from_checkpoint
    from reference import error_of_range, reference_logits, shortfalls

    llama = llama_from_checkpoint(demo_checkpoint)
    want = reference_logits(llama, wikitext[:256])
    error = error_of_range(fp16.logits(wikitext[:256]), want)

    prompts = [fp16.tokenizer.encode(prompt, add_bos=False) for prompt in PROMPTS]
    outputs = fp16.generate(prompts, SamplingParams(temperature=0, max_tokens=64, ignore_eos=True))
    gaps = shortfalls(llama, prompts, [output.outputs[0].token_ids for output in outputs])
    identical = int((gaps == 0).all(axis=1).sum())
    record_property("logit_error_of_range", error)
    record_property("identical_continuations", identical)
    print(f"\nlogit error {error:.2e} of the range, {identical}/10 identical, largest gap {gaps.max():.2e}")
    assert error < 0.01
    assert gaps.shape == (10, 64)
    assert gaps.max() < error * np.ptp(want)


def test_perplexity(fp16: LLM, bf16: LLM, int8: LLM, wikitext: list[int], record_property: Record) -> None:
    """16-bit floats lose less than 0.1 %, prompts multiplied in bfloat16 included, and int8 weights less than 0.4 %."""
    found = {llm.manifest.scheme: perplexity(llm, wikitext) for llm in (fp16, bf16, int8)}
    for scheme, value in found.items():
        record_property(f"perplexity_{scheme}", value)
    ratio = found["w8a16"] / found["fp16"]
    print(f"\nperplexity {found}, ratio {ratio:.5f}")
    assert found["fp16"] == pytest.approx(REFERENCE_PERPLEXITY, rel=1e-3)
    assert found["bf16"] == pytest.approx(REFERENCE_PERPLEXITY, rel=1e-3)
    assert ratio < 1.004


def test_integer_activations(
    compile_demo: CompileDemo, int8: LLM, wikitext: list[int], record_property: Record
) -> None:
    """16 bits cost less than 0.1 % of perplexity, 8 bits less than 0.5 %, against the same weights without them."""
    if not int8.manifest.plan.byte_dot:
        pytest.skip("this CPU has no integer dot products: activations are float32")
    found = {name: perplexity(llm, wikitext) for name, llm in (("a16", int8), ("a8", compile_demo("int8", "a8")))}
    for name, value in found.items():
        record_property(f"perplexity_{name}", value)
    print(f"\nperplexity {found}")
    assert found["a16"] == pytest.approx(INT8_REFERENCE_PERPLEXITY, rel=1e-3)
    assert found["a8"] == pytest.approx(INT8_REFERENCE_PERPLEXITY, rel=5e-3)


def test_int8_kv_cache(compile_demo: CompileDemo, fp16: LLM, wikitext: list[int], record_property: Record) -> None:
    """Costs less than 0.3 % of perplexity."""
    want, found = perplexity(fp16, wikitext), perplexity(compile_demo("fp16", scheme="w16kv8"), wikitext)
    record_property("perplexity_w16kv8", found)
    print(f"\nperplexity {found}, {want} with a float16 cache")
    assert found == pytest.approx(want, rel=3e-3)


@cache
def loss_of(llm: LLM, ids: tuple[int, ...]) -> float:
    """The mean loss, in windows that know nothing of each other."""
    windows = [list(ids[start : start + WINDOW]) for start in range(0, len(ids), WINDOW)]
    return float(np.concatenate([window_losses(llm, window) for window in windows]).mean())


def perplexity(llm: LLM, ids: list[int]) -> float:
    return math.exp(loss_of(llm, tuple(ids)))


def window_losses(llm: LLM, ids: list[int]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """-log p of every token but the first."""
    scores = llm.logits(ids)[:-1]
    scores -= scores.max(axis=1, keepdims=True)
    chosen = scores[np.arange(len(ids) - 1), ids[1:]].astype(np.float64)
    totals = np.exp(scores, out=scores).sum(axis=1, dtype=np.float64)
    result: np.ndarray[tuple[int], np.dtype[np.float64]] = np.log(totals) - chosen
    return result
