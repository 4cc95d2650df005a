"""POST /v1/chat/completions over a fake engine: conversations, streams, and the fields that are chat's own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bytes_tokenizer import chat_prompt, encode
from checkpoints import BOS, IM_START
from fake_engine import MAX_PROMPT_LEN, MAX_SEQ_LEN, FakeEngine
from starlette.testclient import TestClient

URL = "/v1/chat/completions"
TEXT = "Hello, wörld!"
USER = {"role": "user", "content": "hi"}


def ask(client: TestClient, **body: Any) -> Any:
    response = client.post(URL, json={"messages": [USER]} | body)
    assert response.status_code == 200, response.text
    return response.json()


def refusal(client: TestClient, **body: Any) -> Any:
    response = client.post(URL, json={"messages": [USER]} | body)
    assert response.status_code == 400, response.text
    return response.json()["error"]


def test_whole(client: TestClient, engine: FakeEngine) -> None:
    answer = ask(client)
    assert answer["object"] == "chat.completion"
    (choice,) = answer["choices"]
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": TEXT, "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    ((prompt, params, salt),) = engine.asked.values()
    assert prompt == chat_prompt(("user", "hi"))
    assert params.max_tokens == MAX_SEQ_LEN - len(prompt)
    assert salt == ""


def test_stream(client: TestClient, engine: FakeEngine) -> None:
    engine.burst = 3
    response = client.post(URL, json={"messages": [USER], "stream": True, "n": 2, "stream_options": {}})
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    chunks = [json.loads(line) for line in lines]
    assert len({(chunk["id"], chunk["created"], chunk["object"]) for chunk in chunks}) == 1
    assert not any("usage" in chunk for chunk in chunks)
    for index in range(2):
        choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert ["role" in choice["delta"] for choice in choices] == [True] + [False] * (len(choices) - 1)
        assert "".join(choice["delta"].get("content", "") for choice in choices) == TEXT
        assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]


def test_as_evalscope_asks(client: TestClient, engine: FakeEngine) -> None:
    """The fields of a recorded request, streamed; then all others that its generation config can have it send."""
    drawn = {"max_tokens": 16, "seed": 0, "temperature": 0.0}
    body = {"model": "tiny", "messages": [USER], **drawn, "stream": True, "stream_options": {"include_usage": True}}
    lines = [line.removeprefix("data: ") for line in client.post(URL, json=body).text.split("\n\n") if line]
    *chunks, last = map(json.loads, lines[:-1])
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == TEXT
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], len(TEXT.encode()) + 1)
    ((_, params, _),) = engine.asked.values()
    assert {name: getattr(params, name) for name in drawn} == drawn
    more = {
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "repetition_penalty": 1.1,
        "logit_bias": {"7": -100},
        "top_p": 0.9,
        "top_k": 20,
        "n": 1,
        "stop": ["\n\n"],
        "logprobs": True,
        "top_logprobs": 2,
        "structured_outputs": {"regex": "答案：[ABCD]"},
    }
    ask(client, model="tiny", **drawn, **more)


def test_continuous_usage(client: TestClient) -> None:
    body = {"messages": [USER], "stream": True, "stream_options": {"continuous_usage_stats": True}}
    lines = [line.removeprefix("data: ") for line in client.post(URL, json=body).text.split("\n\n") if line]
    counts = [json.loads(line)["usage"]["completion_tokens"] for line in lines[:-1]]
    assert counts == list(range(1, len(TEXT.encode()) + 2))


def test_logprobs_concatenate_to_the_text(client: TestClient) -> None:
    content = ask(client, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
    assert bytes(byte for entry in content for byte in entry["bytes"]).decode() == TEXT
    assert all(len(entry["top_logprobs"]) == 2 for entry in content)
    plain = ask(client, logprobs=True)["choices"][0]["logprobs"]["content"]
    assert all(entry["top_logprobs"] == [] for entry in plain)
    assert len(plain) == len(TEXT.encode())


def test_prompt_logprobs(client: TestClient) -> None:
    assert len(ask(client, prompt_logprobs=0)["prompt_logprobs"]) == len(chat_prompt(("user", "hi")))


def test_content_in_parts(client: TestClient, engine: FakeEngine) -> None:
    ask(client, messages=[{"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}])
    ((prompt, _, _),) = engine.asked.values()
    assert prompt == chat_prompt(("user", "hi"))


def test_a_reply_can_be_sent_back_as_it_came(client: TestClient) -> None:
    message = ask(client)["choices"][0]["message"]
    ask(client, messages=[USER, message, USER])


@pytest.mark.parametrize("end", ["of it ", ""])
def test_continue_final_message(client: TestClient, engine: FakeEngine, end: str) -> None:
    messages = [USER, {"role": "assistant", "content": end}]
    ask(client, messages=messages, continue_final_message=True, add_generation_prompt=False)
    ((prompt, _, _),) = engine.asked.values()
    assert prompt == chat_prompt(("user", "hi")) + encode(end)


def test_add_generation_prompt(client: TestClient, engine: FakeEngine) -> None:
    ask(client, add_generation_prompt=False)
    ((prompt, _, _),) = engine.asked.values()
    assert prompt[0] == BOS
    assert prompt.count(IM_START) == 1
    assert "both" in refusal(client, add_generation_prompt=True, continue_final_message=True)["message"]


def test_template_variables(client: TestClient) -> None:
    ask(client, chat_template_kwargs={})
    assert "no variable 'enable_thinking'" in refusal(client, chat_template_kwargs={"enable_thinking": True})["message"]
    refusal(client, chat_template_kwargs={"messages": "mine"})


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"response_format": {"type": "json_object"}}, {"json_object": True}),
        ({"response_format": {"type": "text"}}, None),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}},
            {"json": '{"type": "object"}'},
        ),
        ({"structured_outputs": {"json": {"type": "object"}}}, {"json": '{"type": "object"}'}),
        ({"structured_outputs": {"regex": "[ab]+"}}, {"regex": "[ab]+"}),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, {"grammar": 'start: "a"'}),
    ],
)
def test_structured_outputs(client: TestClient, engine: FakeEngine, asked: dict[str, Any], found: Any) -> None:
    ask(client, **asked)
    ((_, params, _),) = engine.asked.values()
    outputs = params.structured_outputs
    assert (outputs is None) == (found is None)
    for name, value in (found or {}).items():
        assert getattr(outputs, name) == value


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
        {"messages": [{"role": "user", "content": "x", "name": "me"}]},
        {"messages": [{"role": "user", "content": "\ud800"}]},
        {"messages": [{"role": "user", "content": "x" * (MAX_PROMPT_LEN + 1)}]},
        {"tools": [{"type": "function", "function": {"name": "f f"}}]},
        {"tool_choice": "auto"},
        {"n": 0},
        {"n": 129},
        {"n": True},
        {"n": "2"},
        {"max_tokens": -1},
        {"max_tokens": 10**400},
        {"max_tokens": 1, "max_completion_tokens": 2},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": 1.5},
        {"top_k": -2},
        {"logprobs": True, "top_logprobs": 21},
        {"top_logprobs": 2},
        {"logit_bias": {"-1": 1}},
        {"logit_bias": {"320": 1}},
        {"logit_bias": {"1": 101}},
        {"allowed_token_ids": []},
        {"allowed_token_ids": [320]},
        {"stop": ["a"] * 5},
        {"stop": ""},
        {"stop": "x" * 257},
        {"stop_token_ids": list(range(129))},
        {"stop_token_ids": [-1]},
        {"seed": -1},
        {"seed": 2**63},
        {"min_tokens": 5, "max_tokens": 4},
        {"stream": True, "prompt_logprobs": 1},
        {"response_format": {"type": "json_schema"}},
        {"response_format": {"type": "yaml"}},
        {"structured_outputs": {"regex": "a", "grammar": "b"}},
        {"structured_outputs": {}},
        {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
        {"structured_outputs": {"regex": "a" * 70000}},
        {"store": True},
        {"metadata": {"a": "b"}},
        {"service_tier": "flex"},
        {"reasoning_effort": "low"},
        {"chat_template": "{{ 1 }}"},
        {"no_such_field": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("stream", [False, True])
def test_refusals(client: TestClient, engine: FakeEngine, body: dict[str, Any], stream: bool) -> None:
    """Each is answered with 400 and a sentence, before the engine hears of it; the server goes on."""
    text = json.dumps({"messages": [USER], "stream": stream} | body)
    response = client.post(URL, content=text, headers={"content-type": "application/json"})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert len(error["message"]) < 1000
    assert error["message"].endswith(".")
    assert not engine.asked
    ask(client)


def test_stream_options_need_a_stream(client: TestClient) -> None:
    assert refusal(client, stream_options={"include_usage": True})["param"] == "stream_options"


@pytest.mark.parametrize(
    "neutral",
    [
        {"store": False, "service_tier": "auto", "parallel_tool_calls": True, "modalities": ["text"], "user": "me"},
        {"stop": None, "n": None, "temperature": None, "max_tokens": None, "logprobs": False, "metadata": None},
        {"max_tokens": 5, "max_completion_tokens": 5},
    ],
)
def test_neutral_values(client: TestClient, neutral: dict[str, Any]) -> None:
    ask(client, **neutral)
