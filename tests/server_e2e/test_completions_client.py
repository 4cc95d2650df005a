"""The official client on /v1/completions: prompts of every form, echo, logprobs, and the library's own text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bytes_tokenizer import encode
from checkpoints import BOS
from live_server import MODEL
from openai import OpenAI
from requests_to_tiny import LETTERS, complete, complete_stream

from ilmari import LLM, SamplingParams

PROMPT = "Der var en gang"
IDS = [BOS, *encode(PROMPT)]


def test_whole(client: OpenAI) -> None:
    answer = complete(client, PROMPT, cache_salt="whole")
    assert answer.id.startswith("cmpl-")
    assert (answer.object, answer.model) == ("text_completion", MODEL)
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason, choice.logprobs, len(choice.text)) == (0, "length", None, 24)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(IDS), 24)
    assert answer.usage.total_tokens == len(IDS) + 24


def test_the_library_says_the_same(client: OpenAI, served_artifact: Path) -> None:
    """Also with random draws: the seed is the request's own."""
    params = SamplingParams(max_tokens=24, temperature=0.8, seed=4, ignore_eos=True, allowed_token_ids=LETTERS)
    (output,) = LLM(served_artifact).generate([PROMPT], params)
    assert complete(client, PROMPT, temperature=0.8, seed=4).choices[0].text == output.outputs[0].text


def test_logprobs_are_those_of_the_logits(client: OpenAI, served_artifact: Path) -> None:
    reported = complete(client, IDS, max_tokens=1, logprobs=0, echo=True, allowed_token_ids=None).choices[0].logprobs
    logits = LLM(served_artifact).logits(IDS).astype(np.float64)
    expected = logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
    expected -= logits.max(-1, keepdims=True)
    assert reported is not None
    assert reported.token_logprobs is not None
    assert reported.token_logprobs[0] is None
    found = np.array(reported.token_logprobs[1 : len(IDS)], np.float64)
    np.testing.assert_allclose(found, [expected[row, token] for row, token in enumerate(IDS[1:])], atol=1e-3)


@pytest.mark.parametrize(
    ("prompt", "count"),
    [(PROMPT, 1), (IDS, 1), ([PROMPT, "x"], 2), ([IDS, [5, 6]], 2)],
    ids=["text", "ids", "texts", "lists of ids"],
)
def test_forms_of_prompts(client: OpenAI, prompt: Any, count: int) -> None:
    alone = complete(client, PROMPT).choices[0].text
    answer = complete(client, prompt)
    assert [choice.index for choice in answer.choices] == list(range(count))
    assert answer.choices[0].text == alone


def test_n_of_several_prompts(client: OpenAI) -> None:
    answer = complete(client, ["a", "bc"], n=2, temperature=1, seed=3, best_of=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    alone = complete(client, "bc", n=2, temperature=1, seed=3)
    assert [choice.text for choice in answer.choices[2:]] == [choice.text for choice in alone.choices]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2 + 3, 4 * 24)


@pytest.mark.parametrize("fields", [{}, {"echo": True}, {"logprobs": 2}, {"echo": True, "logprobs": 2}])
def test_stream_equals_whole(client: OpenAI, fields: dict[str, Any]) -> None:
    whole = complete(client, PROMPT, **fields)
    *chunks, last = complete_stream(client, PROMPT, stream_options={"include_usage": True}, **fields)
    assert (last.choices, last.usage and last.usage.total_tokens) == ([], whole.usage and whole.usage.total_tokens)
    assert {chunk.id for chunk in chunks} == {last.id}
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.text for choice in choices) == whole.choices[0].text
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["length"]
    if "logprobs" in fields:
        expected = whole.choices[0].logprobs
        assert expected is not None
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            assert [value for c in choices if c.logprobs for value in getattr(c.logprobs, name)] == getattr(
                expected, name
            )


def test_tokens_of_logprobs_are_the_text(client: OpenAI) -> None:
    choice = complete(client, PROMPT, echo=True, logprobs=3).choices[0]
    assert choice.text.startswith(PROMPT)
    logprobs = choice.logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.text_offset is not None
    assert logprobs.tokens[0] == "<s>"
    assert "".join(logprobs.tokens[1:]) == choice.text
    offset = 0
    for token, found in zip(logprobs.tokens[1:], logprobs.text_offset[1:], strict=True):
        assert found == offset
        offset += len(token)


def test_as_lm_eval_scores(client: OpenAI) -> None:
    """Loglikelihoods of a batch of prompts by token ids: one token more is written, and every token is scored."""
    answer = complete(client, [IDS, IDS[:5]], max_tokens=1, logprobs=1, echo=True, allowed_token_ids=None, seed=1)
    for choice, ids in zip(answer.choices, (IDS, IDS[:5]), strict=True):
        logprobs = choice.logprobs
        assert logprobs is not None
        assert logprobs.token_logprobs is not None
        assert logprobs.top_logprobs is not None
        assert len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == len(ids) + 1
        for value, top in zip(logprobs.token_logprobs[1:], logprobs.top_logprobs[1:], strict=True):
            assert value is not None
            assert max(top.values()) >= value - 1e-6


def test_prompt_logprobs(client: OpenAI) -> None:
    choice = complete(client, IDS, prompt_logprobs=2).choices[0]
    reported = choice.to_dict()["prompt_logprobs"]
    assert isinstance(reported, list)
    assert reported[0] is None
    for token_id, entry in zip(IDS[1:], reported[1:], strict=True):
        assert str(token_id) in entry
        assert {1, 2} <= {top["rank"] for top in entry.values()}


def test_room_in_the_context(client: OpenAI) -> None:
    """Prompt and reply together have 8192 tokens; a reply without a bound may take what is left."""
    answer = complete(client, [5] * 1024, max_tokens=10**6, temperature=1, seed=1, stop=["zz"])
    assert answer.choices[0].finish_reason == "stop"


def test_tokens_there_and_back(client: OpenAI) -> None:
    there = client.post("/../tokenize", body={"prompt": "Blåbær 🫐"}, cast_to=object)
    assert isinstance(there, dict)
    assert there["tokens"] == [BOS, *encode("Blåbær 🫐")]
    assert there["count"] == len(there["tokens"])
    back = client.post("/../detokenize", body={"tokens": there["tokens"][1:]}, cast_to=object)
    assert back == {"prompt": "Blåbær 🫐"}


def test_models(client: OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == MODEL
    assert client.models.retrieve(MODEL) == model
