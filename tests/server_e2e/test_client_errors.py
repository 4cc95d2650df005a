"""Mistakes as exceptions of the official client: their class, and the message, parameter and code that they carry."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from live_server import LiveServer
from openai import OpenAI
from requests_to_tiny import chat, chat_stream, complete


def body_of(error: openai.APIStatusError) -> dict[str, Any]:
    """What the server says, whose form is OpenAI's."""
    assert isinstance(error.body, dict)
    assert error.body.keys() == {"message", "type", "param", "code"}
    assert error.body["message"].endswith(".")
    return error.body


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages.0"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"tool_choice": "required"}, None),
        ({"no_such_field": 1}, "no_such_field"),
        ({"cache_salt": ""}, "cache_salt"),
        ({"logit_bias": {"5000": 1}}, None),
        ({"allowed_token_ids": [5000]}, None),
        ({"stop_token_ids": [5000]}, None),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_bad_request(client: OpenAI, fields: dict[str, Any], param: str | None) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, **fields)
    body = body_of(caught.value)
    assert body["type"] == "invalid_request_error"
    if param is not None:
        assert (body["param"] or "").startswith(param), body


def test_a_stream_that_cannot_begin_is_an_error_with_a_status(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        chat_stream(client, allowed_token_ids=[5000])


def test_prompt_too_long(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="1025") as caught:
        complete(client, [5] * 1025)
    assert "1024" in body_of(caught.value)["message"]


def test_empty_prompt(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        complete(client, [])


def test_no_such_model(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="gpt") as caught:
        chat(client, model="gpt")
    assert body_of(caught.value)["code"] == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt")


def test_no_such_route(server: LiveServer) -> None:
    answer = server.get("/v1/embeddings")
    assert answer.status == 404
    assert answer.error["type"] == "not_found_error"
    assert server.get("/v1/completions").status == 405


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'"a"', b"\xff", b"{'a': 1}", b'{"prompt": NaN}'])
def test_no_json_object(server: LiveServer, data: bytes) -> None:
    answer = server.post("/v1/completions", data)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"


def test_other_content_types(server: LiveServer) -> None:
    answer = server.post("/v1/completions", b'{"prompt": "a"}', {"content-type": "text/plain"})
    assert answer.status == 400
    assert answer.error
