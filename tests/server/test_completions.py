"""POST /v1/completions over a fake engine: every way to ask, and what comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from checkpoints import BOS, EOS
from fake_engine import FakeEngine
from starlette.testclient import TestClient

URL = "/v1/completions"
TEXT = "Hello, wörld!"
TOKENS = len(TEXT.encode()) + 1  # a byte each, and the end


def events(text: str) -> list[Any]:
    """The chunks of a stream that ended well."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def ask(client: TestClient, **body: Any) -> Any:
    response = client.post(URL, json={"prompt": "Say it", "max_tokens": 64} | body)
    assert response.status_code == 200, response.text
    return response.json()


def test_whole(client: TestClient, engine: FakeEngine) -> None:
    engine.cached_tokens = 4
    answer = ask(client, model="tiny")
    (choice,) = answer["choices"]
    assert choice == {"index": 0, "text": TEXT, "logprobs": None, "finish_reason": "stop"}
    assert answer["object"] == "text_completion"
    assert answer["model"] == "tiny"
    assert answer["system_fingerprint"].startswith("fp_")
    assert answer["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": TOKENS,
        "total_tokens": 7 + TOKENS,
        "prompt_tokens_details": {"cached_tokens": 4},
    }


def test_default_length(client: TestClient) -> None:
    answer = client.post(URL, json={"prompt": "x", "ignore_eos": True}).json()
    assert answer["usage"]["completion_tokens"] == 16
    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("burst", [1, 3, 100])
@pytest.mark.parametrize("stop", [None, "w", ["rl", "zzz"], "H"])
def test_stream_equals_whole(client: TestClient, engine: FakeEngine, burst: int, stop: object) -> None:
    engine.burst = burst
    whole = ask(client, stop=stop, logprobs=2)
    response = client.post(
        URL,
        json={
            "prompt": "Say it",
            "max_tokens": 64,
            "stop": stop,
            "logprobs": 2,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, last = events(response.text)
    assert {chunk["id"] for chunk in chunks} == {last["id"]}
    assert last["choices"] == []
    assert last["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in chunks)
    choices = [chunk["choices"][0] for chunk in chunks]
    assert "".join(choice["text"] for choice in choices) == whole["choices"][0]["text"]
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
    for field, values in whole["choices"][0]["logprobs"].items():
        assert [value for choice in choices for value in choice["logprobs"][field]] == values


def test_usage_counts_to_the_stop_string(client: TestClient, engine: FakeEngine) -> None:
    engine.burst = 100
    answer = ask(client, stop="w")
    assert answer["choices"][0]["text"] == "Hello, "
    assert answer["usage"]["completion_tokens"] == len("Hello, w")
    assert ask(client, stop="w", include_stop_str_in_output=True)["choices"][0]["text"] == "Hello, w"


def test_stop_string_ends_the_request_in_the_engine(client: TestClient, engine: FakeEngine) -> None:
    ask(client, stop="w", ignore_eos=True)
    assert len(engine.ended_early) == 1
    assert not engine.running


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("a", [[BOS, None]]),
        ([5, 6], [[5, 6]]),
        (["a", "b"], [[BOS, None], [BOS, None]]),
        ([[5], [6, 7]], [[5], [6, 7]]),
    ],
)
def test_prompts(client: TestClient, engine: FakeEngine, prompt: object, asked: list[list[int | None]]) -> None:
    answer = ask(client, prompt=prompt)
    seen = [ids for ids, _, _ in engine.asked.values()]
    assert [len(ids) for ids in seen] == [len(ids) for ids in asked]
    for ids, expected in zip(seen, asked, strict=True):
        assert all(b is None or a == b for a, b in zip(ids, expected, strict=True))
    assert [choice["index"] for choice in answer["choices"]] == list(range(len(asked)))
    assert answer["usage"]["prompt_tokens"] == sum(map(len, asked))


def test_n(client: TestClient, engine: FakeEngine) -> None:
    answer = ask(client, prompt=["a", "bc"], n=3, seed=5, best_of=3)
    assert [choice["text"] for choice in answer["choices"]] == [TEXT] * 6
    assert answer["usage"]["prompt_tokens"] == 2 + 3
    assert answer["usage"]["completion_tokens"] == 6 * TOKENS
    assert [(len(ids), params.seed) for ids, params, _ in engine.asked.values()] == [
        *((2, 5), (2, 6), (2, 7), (3, 5), (3, 6), (3, 7)),
    ]


def test_n_streams_every_choice(client: TestClient) -> None:
    response = client.post(URL, json={"prompt": "a", "n": 4, "stream": True, "max_tokens": 64})
    texts = dict.fromkeys(range(4), "")
    for chunk in events(response.text):
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["text"]
    assert set(texts.values()) == {TEXT}


def test_echo_with_logprobs_as_lm_eval_asks(client: TestClient) -> None:
    ids = [10, 11, 12, 13]
    answer = ask(client, prompt=ids, echo=True, logprobs=1, max_tokens=1, temperature=0)
    logprobs = answer["choices"][0]["logprobs"]
    assert {len(values) for values in logprobs.values()} == {len(ids) + 1}
    assert logprobs["token_logprobs"] == [None, *[-0.25] * 4]
    assert logprobs["top_logprobs"][0] is None
    assert all(
        max(top, key=top.get) == token
        for token, top in zip(logprobs["tokens"][1:], logprobs["top_logprobs"][1:], strict=True)
    )
    assert answer["choices"][0]["text"].endswith("H")
    assert answer["usage"]["completion_tokens"] == 1


def test_echo_streams_the_prompt_first(client: TestClient) -> None:
    response = client.post(URL, json={"prompt": "Say: ", "echo": True, "stream": True, "max_tokens": 64})
    texts = [chunk["choices"][0]["text"] for chunk in events(response.text)]
    assert texts[0].startswith("Say: ")
    assert "".join(texts) == "Say: " + TEXT


def test_logprobs(client: TestClient) -> None:
    logprobs = ask(client, logprobs=2)["choices"][0]["logprobs"]
    assert "".join(logprobs["tokens"][:8]) == TEXT[:8]
    assert logprobs["tokens"][8:10] == ["bytes:\\xc3", "bytes:\\xb6"]
    assert logprobs["tokens"][-1] == "</s>"
    assert logprobs["text_offset"] == [*range(9), 8, *range(9, 14)]
    assert all(len(top) == 2 for top in logprobs["top_logprobs"])


def test_prompt_logprobs(client: TestClient) -> None:
    reported = ask(client, prompt=[10, 11], prompt_logprobs=1)["choices"][0]["prompt_logprobs"]
    assert reported[0] is None
    assert reported[1]["11"]["logprob"] == -0.25
    assert reported[1]["11"]["rank"] == 1


def test_every_sampling_field_reaches_the_engine(client: TestClient, engine: FakeEngine) -> None:
    fields = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "presence_penalty": 0.3,
        "frequency_penalty": -0.4,
        "allowed_token_ids": [5, 6],
        "seed": 11,
        "stop": ["x"],
        "stop_token_ids": [EOS],
        "include_stop_str_in_output": True,
        "ignore_eos": True,
        "min_tokens": 2,
        "skip_special_tokens": False,
        "max_tokens": 9,
        "prompt_logprobs": 0,
    }
    ask(client, **fields, logit_bias={"5": 1.5})
    ((_, params, _),) = engine.asked.values()
    for name, value in fields.items():
        found = getattr(params, name)
        assert (list(found) if isinstance(found, tuple) else found) == value, name
    assert params.logit_bias == {5: 1.5}


def test_server_seed_draws_for_those_without(make_app: Any, engine: FakeEngine) -> None:
    for _ in range(2):
        client = TestClient(make_app(seed=3))
        for _ in range(2):
            ask(client)
    first, second, again, more = (params.seed for _, params, _ in engine.asked.values())
    assert (first, second) == (again, more)
    assert first != second


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 128, "logprobs": 20, "max_tokens": 200},
        {"n": 128, "logprobs": 20, "max_tokens": 2**31 - 1},
        {"n": 128, "max_tokens": 1, "prompt": ["x" * 100] * 8, "prompt_logprobs": 5},
    ],
)
def test_few_bytes_that_ask_for_gigabytes(client: TestClient, engine: FakeEngine, fields: dict[str, Any]) -> None:
    """Each field is within its bounds; their product is not."""
    answer = client.post("/v1/completions", json={"prompt": "x", "ignore_eos": True} | fields)
    assert answer.status_code == 400
    assert "log-probabilities" in answer.json()["error"]["message"]
    assert not engine.asked
