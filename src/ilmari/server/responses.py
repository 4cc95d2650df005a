"""What the generating endpoints answer, as plain JSON objects with OpenAI's names."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from ilmari.server.logprobs import ChatLogprobs, CompletionLogprobs, PromptLogprobs
from ilmari.server.usage import Usage

Reason = Literal["stop", "length", "tool_calls"]


class FunctionCall(TypedDict):
    """A function of the request, or `python_interpreter`, and arguments as JSON text."""

    name: str
    arguments: str


class MessageCall(TypedDict):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class Message(TypedDict):
    """A whole reply."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: NotRequired[list[MessageCall]]


class FunctionDelta(TypedDict, total=False):
    """First its name, then arguments as they come."""

    name: str
    arguments: str


class CallDelta(TypedDict):
    """More of call `index`."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: FunctionDelta


class MessageDelta(TypedDict, total=False):
    """What is new of a reply: first its role, then text and calls."""

    role: Literal["assistant"]
    content: str
    tool_calls: list[CallDelta]


class ChatChoice(TypedDict):
    """One of `n` replies."""

    index: int
    message: Message
    logprobs: ChatLogprobs | None
    finish_reason: Reason


class ChatChunkChoice(TypedDict):
    """More of one of them."""

    index: int
    delta: MessageDelta
    logprobs: ChatLogprobs | None
    finish_reason: Reason | None


class Head(TypedDict):
    """What all answers to one request, and all chunks of one, have in common."""

    id: str
    created: int
    model: str
    system_fingerprint: str


class ChatCompletion(Head):
    """POST /v1/chat/completions."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: Usage
    prompt_logprobs: NotRequired[PromptLogprobs]


class ChatCompletionChunk(Head):
    """The same in a stream."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
    usage: NotRequired[Usage | None]


class CompletionChoice(TypedDict):
    """One continuation, or in a stream more of it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Reason | None
    prompt_logprobs: NotRequired[PromptLogprobs]


class Completion(Head):
    """POST /v1/completions, whole or in a stream."""

    object: Literal["text_completion"]
    choices: list[CompletionChoice]
    usage: NotRequired[Usage | None]
