"""What tests ask of the small model, and what they read from its replies."""

from __future__ import annotations

from collections.abc import Iterable
from string import ascii_letters
from typing import Any

from bytes_tokenizer import encode
from live_server import MODEL
from openai import OpenAI
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

LETTERS = encode(ascii_letters)
"""The ids of tokens that make clean text; the model itself writes any bytes."""

HELLO = [{"role": "user", "content": "Hei, hvordan går det?"}]


def body(*, max_tokens: int = 24, **more: Any) -> dict[str, Any]:
    """Exactly `max_tokens` letters, the most probable ones."""
    fixed = {"model": MODEL, "max_tokens": max_tokens, "temperature": 0}
    return fixed | {"ignore_eos": True, "allowed_token_ids": LETTERS} | more


def for_client(body: dict[str, Any]) -> dict[str, Any]:
    """The same as arguments of the official client, which takes fields that it does not know apart."""
    extra = {name: value for name, value in body.items() if name not in _KNOWN}
    return {name: value for name, value in body.items() if name in _KNOWN} | {"extra_body": extra}


_KNOWN = {
    *(
        "model",
        "messages",
        "prompt",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "n",
        "stop",
        "seed",
    ),
    *("stream", "stream_options", "logprobs", "top_logprobs", "logit_bias", "echo", "best_of", "suffix", "user"),
    *("tools", "tool_choice", "parallel_tool_calls", "response_format", "presence_penalty", "frequency_penalty"),
}


def chat(client: OpenAI, **more: Any) -> ChatCompletion:
    """A reply to `HELLO`, whole."""
    reply = client.chat.completions.create(**for_client(body(**{"messages": HELLO} | more)))
    assert isinstance(reply, ChatCompletion)
    return reply


def chat_stream(client: OpenAI, **more: Any) -> list[ChatCompletionChunk]:
    """A reply to `HELLO` in chunks."""
    with client.chat.completions.create(**for_client(body(**{"messages": HELLO, "stream": True} | more))) as stream:
        return list(stream)


def complete(client: OpenAI, prompt: str | list[int] | list[str] | list[list[int]], **more: Any) -> Completion:
    """A completion, whole."""
    reply = client.completions.create(**for_client(body(prompt=prompt, **more)))
    assert isinstance(reply, Completion)
    return reply


def complete_stream(client: OpenAI, prompt: str | list[int], **more: Any) -> list[Completion]:
    """A completion in chunks."""
    with client.completions.create(**for_client(body(prompt=prompt, stream=True, **more))) as stream:
        return list(stream)


def text_of(chunks: Iterable[ChatCompletionChunk], index: int = 0) -> str:
    """The text of one reply of a stream."""
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices if choice.index == index)
