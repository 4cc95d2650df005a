"""Allowed tokens, biases and penalties against their definitions in Python floats."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ilmari import LLM, SamplingParams
from ilmari.engine.logit_rules import LogitRules

VOCAB = 97
PROMPT = [3, 5, 5, 8]
OUTPUT = [8, 9, 9, 9, 41]
STOPS = (0, 96)
IMPOSSIBLE = float("-inf")


class Fixed:
    """A grammar that allows the same tokens wherever it is."""

    def __init__(self, *token_ids: int) -> None:
        self.mask = np.zeros(VOCAB, np.bool_)
        self.mask[list(token_ids)] = True

    def allowed(self, _: Sequence[int]) -> NDArray[np.bool_]:
        return self.mask


def random_logits() -> NDArray[np.float32]:
    return (2 * np.random.default_rng(7).standard_normal(VOCAB)).astype(np.float32)


def changed(output: list[int] = OUTPUT, grammar: Fixed | None = None, **params: Any) -> NDArray[np.float32]:
    logits = random_logits()
    LogitRules(SamplingParams(**params), PROMPT, STOPS, VOCAB, grammar).apply(logits, output)
    return logits


@pytest.mark.parametrize("repetition", [1.0, 1.3, 0.7])
@pytest.mark.parametrize(("frequency", "presence"), [(0, 0), (0.5, 0), (0, 1.5), (-0.25, 2)])
def test_penalties(repetition: float, frequency: float, presence: float) -> None:
    expected = []
    for token_id, logit in enumerate(random_logits().tolist()):
        if token_id in PROMPT + OUTPUT:
            logit = logit / repetition if logit > 0 else logit * repetition
        logit -= frequency * OUTPUT.count(token_id) + presence * (token_id in OUTPUT)
        expected.append(logit)
    got = changed(repetition_penalty=repetition, frequency_penalty=frequency, presence_penalty=presence)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_penalties_of_a_growing_answer_are_those_of_the_whole() -> None:
    params = SamplingParams(frequency_penalty=0.5, repetition_penalty=1.2)
    rules = LogitRules(params, PROMPT, STOPS, VOCAB)
    for length in range(len(OUTPUT) + 1):
        logits = random_logits()
        rules.apply(logits, OUTPUT[:length])
        np.testing.assert_array_equal(logits, changed(OUTPUT[:length], frequency_penalty=0.5, repetition_penalty=1.2))


def test_biases_come_before_penalties() -> None:
    expected = random_logits().astype(np.float64)
    expected[[8, 50]] += [3.5, -100]
    seen = sorted({*PROMPT, *OUTPUT})
    expected[seen] = np.where(expected[seen] > 0, expected[seen] / 1.5, expected[seen] * 1.5)
    got = changed(logit_bias={8: 3.5, 50: -100}, repetition_penalty=1.5)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def possible(logits: NDArray[np.float32]) -> list[int]:
    return np.flatnonzero(logits > IMPOSSIBLE).tolist()


def test_only_allowed_tokens_are_left_and_they_keep_their_logits() -> None:
    logits = changed(allowed_token_ids=[7, 0, 33])
    assert possible(logits) == [0, 7, 33]
    np.testing.assert_array_equal(logits[[0, 7, 33]], random_logits()[[0, 7, 33]])
    assert possible(changed(allowed_token_ids=[7, 0, 33], repetition_penalty=2, logit_bias={4: 100})) == [0, 7, 33]


@pytest.mark.parametrize("written", [0, 1, 2, 3, 4])
def test_stop_tokens_wait_for_the_least_number_of_tokens(written: int) -> None:
    expected = [i for i in range(VOCAB) if written >= 3 or i not in STOPS]
    assert possible(changed(OUTPUT[:written], min_tokens=3)) == expected


@pytest.mark.parametrize(
    ("grammar", "params", "left"),
    [
        (Fixed(1, 2, 96), {}, [1, 2, 96]),
        (Fixed(1, 2, 96), {"allowed_token_ids": [2, 3]}, [2]),
        (Fixed(1, 2, 96), {"allowed_token_ids": [4]}, [1, 2, 96]),
        (Fixed(1, 2, 96), {"min_tokens": 9}, [1, 2]),
        (Fixed(96), {"min_tokens": 9}, [96]),
        (None, {"allowed_token_ids": [0], "min_tokens": 9}, [0]),
        (Fixed(1, 96), {"allowed_token_ids": [96], "min_tokens": 9}, [96]),
    ],
)
def test_a_rule_that_would_leave_nothing_gives_way(
    grammar: Fixed | None, params: dict[str, Any], left: list[int]
) -> None:
    assert possible(changed(grammar=grammar, **params)) == left


def test_extreme_logits_stay_numbers() -> None:
    most = np.finfo(np.float32).max
    logits = np.array([-most, most, 0, -most], np.float32)
    LogitRules(SamplingParams(repetition_penalty=0.01, logit_bias={1: 100}), [1, 3], (), 4).apply(logits, [])
    assert np.isfinite(logits).all()
    assert logits.argmax() == 1


def test_parameters_that_change_nothing_need_no_rules() -> None:
    assert not LogitRules.needed(SamplingParams(temperature=0.5, top_k=3, top_p=0.5, min_p=0.1, logprobs=3))


def test_a_model_writes_what_it_may(new_llm: Callable[..., LLM]) -> None:
    llm = new_llm()

    def written(**params: Any) -> list[int]:
        return llm.generate([1, 2, 3], SamplingParams(temperature=0, max_tokens=12, **params))[0].outputs[0].token_ids

    first = written(ignore_eos=True)[0]
    assert set(written(allowed_token_ids=[40, 41, 42])) <= {40, 41, 42}
    assert len(written(stop_token_ids=[first])) == 1
    assert len(written(stop_token_ids=[first], min_tokens=5)) >= 5
    assert first not in written(logit_bias={first: -100}, ignore_eos=True)
    assert len(set(written(repetition_penalty=100, presence_penalty=2, ignore_eos=True))) == 12
    best = llm.generate([1, 2, 3], SamplingParams(temperature=0, max_tokens=1, logprobs=2, logit_bias={first: -100}))
    assert best[0].outputs[0].logprobs[0][0].token_id == first, "log-probabilities are the model's own"
