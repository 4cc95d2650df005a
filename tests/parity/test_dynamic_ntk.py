"""Dynamic NTK against transformers: prompts shorter and longer than the model was trained for, alone and together."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from checkpoints import TINY_SIZES, write_checkpoint

from ilmari import LLM, SamplingParams
from ilmari.engine.output import RequestOutput

pytest.importorskip("torch")
pytest.importorskip("transformers")

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_linear_kernel")]

MAX_POSITION = 64
VOCAB = TINY_SIZES["vocab"]
TOLERANCE = 4e-4  # of the logits' range
SIZES: dict[str, Any] = TINY_SIZES | {
    "max_position": MAX_POSITION,
    "rope_scaling": {"type": "dynamic", "factor": 2.5},
}
LOGPROBS = 20

Ids = list[int]
NewModel = Callable[[], "LlamaForCausalLM"]


@pytest.fixture(scope="module")
def llm(compile_tiny: Callable[..., Path]) -> LLM:
    return LLM(compile_tiny("fp16", lengths=(256, 256), **SIZES), max_num_batched_tokens=48)


@pytest.fixture(scope="module")
def new_model(tmp_path_factory: pytest.TempPathFactory) -> NewModel:
    """The reference as new: its dynamic RoPE remembers the longest sequence that it has seen."""
    from demo_model import llama_from_checkpoint

    folder = write_checkpoint(tmp_path_factory.mktemp("checkpoint"), **SIZES)
    return lambda: llama_from_checkpoint(folder)


def tokens(count: int) -> Ids:
    ids: Ids = np.random.default_rng(count).integers(0, VOCAB, count).tolist()
    return ids


@pytest.mark.parametrize("length", [1, MAX_POSITION - 1, MAX_POSITION, MAX_POSITION + 1, 2 * MAX_POSITION, 256])
def test_logits_of_a_prompt(llm: LLM, new_model: NewModel, length: int) -> None:
    from reference import error_of_range, reference_logits

    ids = tokens(length)
    assert error_of_range(llm.logits(ids), reference_logits(new_model(), ids)) < TOLERANCE


def test_scaling_is_no_small_matter(new_model: NewModel) -> None:
    """The tolerance is far below what the wrong base would do."""
    from reference import error_of_range, fix_rope, reference_logits

    ids, plain = tokens(2 * MAX_POSITION), new_model()
    fix_rope(plain, MAX_POSITION)
    assert error_of_range(reference_logits(plain, ids), reference_logits(new_model(), ids)) > 100 * TOLERANCE


def test_a_long_prompt_leaves_no_trace(llm: LLM) -> None:
    before = llm.logits(tokens(40))
    llm.logits(tokens(200))
    np.testing.assert_array_equal(llm.logits(tokens(40)), before)


@pytest.mark.parametrize("prompt_len", [MAX_POSITION - 20, MAX_POSITION, MAX_POSITION + 1, 2 * MAX_POSITION])
def test_a_growing_sequence_keeps_the_base_of_its_prompt(llm: LLM, new_model: NewModel, prompt_len: int) -> None:
    params = SamplingParams(temperature=0, max_tokens=70, ignore_eos=True, logprobs=LOGPROBS)
    check_logprobs(llm.generate(tokens(prompt_len), params)[0], new_model())


def test_sequences_in_one_batch_have_their_own_bases(llm: LLM, new_model: NewModel) -> None:
    params = SamplingParams(temperature=0, max_tokens=30, ignore_eos=True, logprobs=LOGPROBS)
    outputs = llm.generate([tokens(length) for length in (50, 200, 3, 64, 90)], params)
    for output in outputs:
        check_logprobs(output, new_model())


def check_logprobs(output: RequestOutput, model: "LlamaForCausalLM") -> None:
    """The best logprobs at each generated position are those of a reference whose base is fixed by the prompt."""
    from reference import fix_rope, reference_logits

    prompt, completion = output.prompt_token_ids, output.outputs[0]
    assert completion.logprobs is not None
    fix_rope(model, len(prompt))
    rows = reference_logits(model, [*prompt, *completion.token_ids[:-1]])[len(prompt) - 1 :]
    allowed = 2 * TOLERANCE * float(np.ptp(rows))  # of the logit, and of the logarithm of the total
    for row, entries in zip(rows, completion.logprobs, strict=True):
        want = log_softmax(row)
        assert len(entries) == LOGPROBS
        for entry in entries:
            assert math.isclose(entry.logprob, want[entry.token_id], abs_tol=allowed)
        assert want.max() - want[entries[0].token_id] < allowed


def log_softmax(row: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    scores = row.astype(np.float64) - row.max()
    result: npt.NDArray[np.float64] = scores - np.log(np.exp(scores).sum())
    return result
