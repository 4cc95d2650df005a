"""Sequences in one batch, prompts in pieces and a short KV cache change no answer."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ilmari import LLM, SamplingParams
from ilmari.engine.kv_cache import blocks_for
from ilmari.engine.output import RequestOutput
from ilmari.errors import RequestError

NewLlm = Callable[..., LLM]

pytestmark = pytest.mark.usefixtures("one_linear_kernel")

LENGTHS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 128)
BLOCK = 16
GREEDY = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
SEEDED = SamplingParams(temperature=1.5, top_p=0.95, repetition_penalty=1.1, max_tokens=24, ignore_eos=True, seed=11)


def prompt_of(length: int, vocab: int = 333) -> list[int]:
    ids: list[int] = np.random.default_rng(length).integers(0, vocab, length).tolist()
    return ids


PROMPTS = [prompt_of(length) for length in LENGTHS]


def token_ids(outputs: list[RequestOutput]) -> list[list[int]]:
    return [output.outputs[0].token_ids for output in outputs]


def cache_bytes(llm: LLM, blocks: int) -> int:
    return blocks * BLOCK * llm.manifest.plan.kv_bytes_per_token


def coarse(llm: LLM) -> bool:
    """Whether activations, or keys and values, are 8-bit integers."""
    scheme = llm.manifest.plan.scheme
    return scheme.activation_bits == 8 or scheme.kv_cache == "int8"


@pytest.mark.parametrize("params", [GREEDY, SEEDED], ids=["greedy", "seeded"])
@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["short first", "long first"])
def test_a_batch_gives_what_each_prompt_alone_gives(llm: LLM, params: SamplingParams, order: slice) -> None:
    alone = [token_ids(llm.generate(prompt, params))[0] for prompt in PROMPTS]
    assert all(len(tokens) == 24 for tokens in alone)
    assert len({tuple(tokens) for tokens in alone}) == len(PROMPTS)
    assert token_ids(llm.generate(PROMPTS[order], params)) == alone[order]


def test_answers_of_different_lengths_come_in_the_order_of_their_prompts(llm: LLM) -> None:
    """A sequence that ends leaves the batch, and another takes its place."""
    alone = [token_ids(llm.generate(prompt, GREEDY))[0] for prompt in PROMPTS]
    outputs = {}
    engine = llm.engine
    sequences = [
        engine.add(prompt, replace(GREEDY, max_tokens=1 + place), frozenset()) for place, prompt in enumerate(PROMPTS)
    ]
    while engine.has_work:
        for sequence in engine.step():
            outputs[sequence.id] = sequence.output
    assert [outputs[sequence.id] for sequence in sequences] == [tokens[: 1 + at] for at, tokens in enumerate(alone)]


@pytest.mark.parametrize("max_num_batched_tokens", [1, 7, 16, 64])
def test_logits_do_not_depend_on_the_pieces_of_a_prompt(llm: LLM, new_llm: NewLlm, max_num_batched_tokens: int) -> None:
    pieces = new_llm(max_num_batched_tokens=max_num_batched_tokens, max_num_seqs=1)
    for length in (6, 7, 8, 64, 65, 203, 256):
        want, got = llm.logits(prompt_of(length)), pieces.logits(prompt_of(length))
        # An activation or a key on the border between two integers, or two float16 numbers, may go either way.
        step = 1e-2 if coarse(llm) else 1e-4
        np.testing.assert_allclose(got, want, atol=step * float(np.ptp(want)), rtol=0)


@pytest.mark.parametrize(
    ("max_num_batched_tokens", "max_num_seqs"), [(1, 1), (1, 7), (7, 3), (16, 7), (64, 1), (64, 3)]
)
def test_generation_does_not_depend_on_the_limits(
    llm: LLM, new_llm: NewLlm, max_num_batched_tokens: int, max_num_seqs: int
) -> None:
    """Prompts longer than a step, and more prompts than may run at once."""
    if coarse(llm):
        pytest.skip("a difference in the last bit of a score can be a step of an 8-bit number: see the test above")
    limited = new_llm(max_num_batched_tokens=max_num_batched_tokens, max_num_seqs=max_num_seqs)
    assert token_ids(limited.generate(PROMPTS, GREEDY)) == token_ids(llm.generate(PROMPTS, GREEDY))


def test_no_more_sequences_run_than_allowed(new_llm: NewLlm) -> None:
    llm = new_llm(max_num_seqs=3)
    for prompt in PROMPTS:
        llm.engine.add(prompt, GREEDY, frozenset())
    while llm.engine.has_work:
        assert len(llm.engine.step()) <= 3


def test_a_small_cache_serves_all_in_turn(llm: LLM, new_llm: NewLlm) -> None:
    """Room for the longest prompt and its answer, but never for two of those."""
    small = new_llm(kv_cache_memory_bytes=cache_bytes(llm, blocks_for(128 + 24)))
    assert token_ids(small.generate(PROMPTS[::-1], GREEDY)) == token_ids(llm.generate(PROMPTS[::-1], GREEDY))


def test_admission_is_in_order_of_arrival(llm: LLM, new_llm: NewLlm) -> None:
    """A short prompt that would fit waits behind a long one that does not yet."""
    engine = new_llm(kv_cache_memory_bytes=cache_bytes(llm, 4)).engine
    params = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
    names = {"first": 40, "long": 30, "short": 1, "shorter": 1}
    sequences = {name: engine.add(prompt_of(length), params, frozenset()) for name, length in names.items()}
    started: dict[str, int] = {}
    steps = 0
    while engine.has_work:
        engine.step()
        steps += 1
        for name, sequence in sequences.items():
            if sequence.output:
                started.setdefault(name, steps)
    assert started == {"first": 1, "long": 9, "short": 9, "shorter": 17}


def test_a_sequence_that_can_never_fit_is_refused_and_others_are_served(llm: LLM, new_llm: NewLlm) -> None:
    small = new_llm(kv_cache_memory_bytes=cache_bytes(llm, 2))
    fits = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
    assert len(token_ids(small.generate(prompt_of(20), fits))[0]) == 12
    for attempt in (
        lambda: small.generate(prompt_of(20), replace(fits, max_tokens=13)),
        lambda: small.generate([prompt_of(3), prompt_of(33)], fits),
        lambda: small.logits(prompt_of(33)),
        lambda: small.generate(prompt_of(20), replace(fits, max_tokens=None)),
    ):
        with pytest.raises(RequestError, match=r"needs \d+ KV blocks and the cache has 2"):
            attempt()
    assert small.logits(prompt_of(32)).shape == (32, 333)
    assert token_ids(small.generate(prompt_of(20), fits)) == token_ids(llm.generate(prompt_of(20), fits))


def test_logits_are_refused_while_the_cache_is_full(llm: LLM, new_llm: NewLlm) -> None:
    small = new_llm(kv_cache_memory_bytes=cache_bytes(llm, 2))
    sequence = small.engine.add(prompt_of(17), replace(GREEDY, max_tokens=15), frozenset())
    small.engine.step()
    with pytest.raises(RequestError, match="The KV cache is full"):
        small.logits(prompt_of(10))
    small.engine.finish(sequence, "abort")
    assert small.logits(prompt_of(10)).shape == (10, 333)


def test_logits_in_between_leave_running_sequences_alone(llm: LLM) -> None:
    want = token_ids(llm.generate(prompt_of(20), GREEDY))[0]
    stream = llm.stream(prompt_of(20), GREEDY)
    outputs = []
    for output in stream:
        llm.logits(prompt_of(50))
        outputs.append(output.outputs[0].token_ids)
    assert outputs[-1] == want
