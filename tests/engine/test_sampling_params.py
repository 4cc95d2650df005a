"""Sampling parameters: defaults, what is stored, and a sentence for everything that cannot be used."""

import dataclasses
import inspect
import re
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pytest

from ilmari.engine.messages import Submit, ToEngine
from ilmari.engine.sampling_params import SamplingParams, StructuredOutputs
from ilmari.errors import RequestError

NAN, INF = float("nan"), float("inf")
HUGE = 10**5000  # Python refuses to print it

REFUSED: list[tuple[str, Any, str]] = [
    *(("temperature", bad, "a number from 0 to 100") for bad in (-0.1, NAN, INF, 100.1, True, "1", None, 1j, HUGE)),
    *(("top_k", bad, "an integer from -1 to 2147483647") for bad in (-2, 2**31, 1.0, NAN, False, "5", None, HUGE)),
    *(("top_p", bad, "a number above 0 and up to 1") for bad in (0, 0.0, -0.5, 1.0001, NAN, INF, True, "1", None)),
    *(("min_p", bad, "a number from 0 to 1") for bad in (-1e-9, 1.1, NAN, INF, False, "0", None, [0.1])),
    *(("repetition_penalty", bad, "a number from 0.01 to 100") for bad in (0, -1, NAN, INF, 101, True, "1", None)),
    *(
        (f"{kind}_penalty", bad, "a number from -2 to 2")
        for kind in ("presence", "frequency")
        for bad in (2.1, NAN, "1")
    ),
    *(
        ("logit_bias", bad, "a mapping of at most 300, each from")
        for bad in ([1], "1", True, dict.fromkeys(range(301), 1))
    ),
    *(("logit_bias", {3: bad}, "a number from -100 to 100") for bad in (101, -101, NAN, None, "1", True)),
    *(("logit_bias", {bad: 1}, "an integer from 0 to 2147483647") for bad in (-1, 1.0, "1", True, HUGE)),
    *(("allowed_token_ids", bad, "a list of 1 to 1048576, each an integer") for bad in (5, {5}, [], range(2**21))),
    *(("allowed_token_ids", bad, "an integer from 0 to 2147483647") for bad in ([-1], [1.0], "7", [HUGE])),
    *(("min_tokens", bad, "an integer from 0 to 2147483647") for bad in (-1, 2**31, 1.0, True, None)),
    ("min_tokens", 17, "an integer from 0 to max_tokens, 16"),
    *(("structured_outputs", bad, "StructuredOutputs, or None") for bad in ({}, {"json": "{}"}, "{}", True)),
    *(("prompt_logprobs", bad, "an integer from 0 to 20, or None") for bad in (-1, 21, 1.0, True)),
    *(("max_tokens", bad, "an integer from 1 to 2147483647, or None") for bad in (0, -1, 2**31, 1.5, True, "16", HUGE)),
    *(("seed", bad, "an integer from 0 to 9223372036854775807, or None") for bad in (-1, 2**63, 0.5, True, "0", -HUGE)),
    *(("logprobs", bad, "an integer from 0 to 20, or None") for bad in (-1, 21, 1.0, True, "3", HUGE)),
    *(("ignore_eos", bad, "True or False") for bad in (0, 1, None, "true")),
    *(("include_stop_str_in_output", bad, "True or False") for bad in (0, 1, None, "true")),
    *(("skip_special_tokens", bad, "True or False") for bad in (0, 1, None, "true")),
    *(("stop", bad, "a list of at most 4, each a string of 1 to 256 characters") for bad in (3, {"a"}, {"a": 1}, True)),
    ("stop", list("abcde"), "a list of at most 4"),
    ("stop", range(10**9), "a list of at most 4"),
    *(("stop", bad, "a string of 1 to 256 characters") for bad in ("", [""], [1], [None], ["a", "b" * 257], b"ab")),
    *(("stop_token_ids", bad, "a list of at most 128, each an integer") for bad in (2, {2}, 1.0, [2] * 129)),
    *(
        ("stop_token_ids", bad, "an integer from 0 to 2147483647")
        for bad in ([-1], [2**31], [1.0], [True], "2", [HUGE])
    ),
]


@pytest.mark.parametrize(("field", "value", "expected"), REFUSED, ids=lambda value: type(value).__name__)
def test_a_wrong_value_is_one_sentence_that_names_the_field(field: str, value: Any, expected: str) -> None:
    with pytest.raises(RequestError) as caught:
        SamplingParams(**{field: value})
    message = str(caught.value)
    assert re.match(rf"{field}(\[\d+\]|'s key)? (is|has) .+; it must be .+\.$", message)
    assert expected in message
    assert len(message) < 200


def test_the_sentence_points_at_the_entry() -> None:
    with pytest.raises(
        RequestError, match=r"^stop_token_ids\[2\] is -7; it must be an integer from 0 to 2147483647\.$"
    ):
        SamplingParams(stop_token_ids=[1, 2, -7])
    with pytest.raises(RequestError, match=r"^stop has 5 entries; it must be a list of at most 4, each a string of"):
        SamplingParams(stop=["a"] * 5)
    with pytest.raises(RequestError, match=r"^seed is an integer of 16610 bits; it must be"):
        SamplingParams(seed=HUGE)


def test_every_field_has_a_refusal_above() -> None:
    assert {field for field, *_ in REFUSED} == {field.name for field in dataclasses.fields(SamplingParams)}


def test_names_and_defaults_are_frozen() -> None:
    assert dataclasses.asdict(SamplingParams()) == {
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "logit_bias": None,
        "allowed_token_ids": None,
        "min_tokens": 0,
        "structured_outputs": None,
        "max_tokens": 16,
        "seed": None,
        "stop": (),
        "stop_token_ids": (),
        "ignore_eos": False,
        "logprobs": None,
        "prompt_logprobs": None,
        "include_stop_str_in_output": False,
        "skip_special_tokens": True,
    }
    parameters = inspect.signature(SamplingParams).parameters.values()
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters)


@pytest.mark.parametrize(
    ("field", "given", "stored"),
    [
        ("temperature", 0, 0.0),
        ("temperature", np.float32(0.5), 0.5),
        ("temperature", Fraction(1, 4), 0.25),
        ("temperature", 100, 100.0),
        ("top_k", -1, -1),
        ("top_k", np.int64(7), 7),
        ("top_p", 1, 1.0),
        ("top_p", 5e-324, 5e-324),
        ("min_p", 1, 1.0),
        ("repetition_penalty", 0.01, 0.01),
        ("presence_penalty", -2, -2.0),
        ("frequency_penalty", 2, 2.0),
        ("logit_bias", {}, None),
        ("logit_bias", {np.int64(3): 100, 0: -100}, {3: 100.0, 0: -100.0}),
        ("allowed_token_ids", None, None),
        ("allowed_token_ids", [np.int64(3)], (3,)),
        ("min_tokens", 16, 16),
        ("max_tokens", None, None),
        ("max_tokens", 1, 1),
        ("seed", 0, 0),
        ("seed", 2**63 - 1, 2**63 - 1),
        ("seed", np.uint64(3), 3),
        ("logprobs", 0, 0),
        ("logprobs", 20, 20),
        ("stop", None, ()),
        ("stop", [], ()),
        ("stop", "ab", ("ab",)),
        ("stop", ["b" * 256, "\n", "c", "d"], ("b" * 256, "\n", "c", "d")),
        ("stop_token_ids", None, ()),
        ("stop_token_ids", [0, np.int32(2)], (0, 2)),
        ("stop_token_ids", range(128), tuple(range(128))),
    ],
)
def test_bounds_are_inclusive_and_values_are_stored_plain(field: str, given: Any, stored: Any) -> None:
    kept = getattr(SamplingParams(**{field: given}), field)
    assert kept == stored
    assert type(kept) is type(stored)
    if isinstance(kept, tuple):
        assert {type(entry) for entry in kept} <= {int, str}


def test_it_is_frozen_hashable_and_can_be_replaced() -> None:
    params = SamplingParams(stop=["a"], stop_token_ids=[2])
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.top_k = 3  # type: ignore[misc]
    assert hash(params) == hash(SamplingParams(stop=("a",), stop_token_ids=(2,)))
    assert dataclasses.replace(params, top_k=3).stops == ("a",)
    with pytest.raises(RequestError):
        dataclasses.replace(params, top_k=-3)


@pytest.mark.parametrize(("temperature", "greedy"), [(0.0, True), (-0.0, True), (9e-6, True), (1e-5, False)])
def test_greedy_begins_where_vllm_has_it(temperature: float, greedy: bool) -> None:
    assert SamplingParams(temperature=temperature).greedy is greedy


def test_structured_outputs_are_exactly_one_thing() -> None:
    for given in ({"json": "{}"}, {"json_object": True}, {"regex": ""}, {"grammar": "start: /a/"}):
        StructuredOutputs(**given)  # type: ignore[arg-type]
    expected = "exactly one of json, json_object, regex, grammar"
    with pytest.raises(RequestError, match=rf"^structured_outputs has nothing; it must have {expected}\.$"):
        StructuredOutputs()
    with pytest.raises(RequestError, match=rf"^structured_outputs has json and regex; it must have {expected}\.$"):
        StructuredOutputs(json="{}", regex="a")
    with pytest.raises(RequestError, match=r"^structured_outputs\.json is \{\}; it must be a text, or None\.$"):
        StructuredOutputs(json={})  # type: ignore[arg-type]


def test_they_cross_to_another_process_whole() -> None:
    params = SamplingParams(
        logit_bias={5: 1, 0: -2.5},
        allowed_token_ids=[7, 1],
        stop=["a", "b"],
        stop_token_ids=[3],
        structured_outputs=StructuredOutputs(regex="[a-z]+"),
        prompt_logprobs=3,
    )
    message = Submit("a", [1, 2], params)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=ToEngine) == message


def test_every_token_id_is_held_against_the_vocabulary() -> None:
    for params, name in (
        (SamplingParams(allowed_token_ids=[0, 319]), "allowed_token_ids[1]"),
        (SamplingParams(logit_bias={319: 1}), "logit_bias[319]"),
    ):
        params.check_vocabulary(320)
        with pytest.raises(RequestError) as caught:
            params.check_vocabulary(319)
        assert str(caught.value) == f"{name} is 319; it must be a token id of the model, 0 to 318."
    with pytest.raises(RequestError, match=r"^allowed_token_ids has 3 entries; it must be a list of at most 2, each"):
        SamplingParams(allowed_token_ids=[0, 1, 0]).check_vocabulary(2)


def test_stop_tokens_are_held_against_the_vocabulary() -> None:
    params = SamplingParams(stop_token_ids=[0, 319])
    params.check_vocabulary(320)
    with pytest.raises(
        RequestError, match=r"^stop_token_ids\[1\] is 319; it must be a token id of the model, 0 to 318\.$"
    ):
        params.check_vocabulary(319)
    SamplingParams().check_vocabulary(1)
