"""The body of POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from ilmari.engine.sampling_params import SamplingParams, StructuredOutputs
from ilmari.server.errors import ApiError
from ilmari.server.limits import MAX_MESSAGES
from ilmari.server.request_fields import Fields, GenerationFields, Name, TemplateVariables, TokenCount, TopLogprobs
from ilmari.server.tool_grammar import single_call_stop, tool_grammar
from ilmari.server.tools import MAX_TOOLS, Tools, read_tools


class TextPart(Fields):
    """A part of a message. There are no others: images and sound are not read, and nothing is fetched."""

    type: Literal["text"]
    text: str


def _kind(value: Any) -> str:
    return "parts" if isinstance(value, list) else "text"


Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_MESSAGES), Tag("parts")],
    Discriminator(_kind),
]


class CalledFunction(Fields):
    """Which function was called, and with what: JSON text, as the model wrote it."""

    name: Name
    arguments: str


class EarlierCall(Fields):
    """A call in an earlier reply, as it was returned."""

    id: Name
    type: Literal["function"]
    function: CalledFunction


class ChatMessage(Fields):
    """One turn. The fields that are only ever null come back from clients that send a reply as they got it."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Content | None = None
    tool_calls: Annotated[list[EarlierCall], Field(max_length=MAX_TOOLS)] | None = None
    tool_call_id: Name | None = None
    refusal: None = None
    annotations: None = None
    audio: None = None
    function_call: None = None

    @model_validator(mode="after")
    def _check_role(self) -> ChatMessage:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only an assistant's message has tool_calls")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("a message has a tool_call_id if, and only if, its role is tool")
        if self.content is None and not self.tool_calls:
            raise ValueError("a message without tool_calls has content")
        return self

    @property
    def text(self) -> str:
        """Its content, parts in a row."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(part.text for part in self.content)

    @property
    def turn(self) -> dict[str, Any]:
        """As `prompt_turns` takes it."""
        calls = {"tool_calls": [call.model_dump() for call in self.tool_calls]} if self.tool_calls else {}
        answered = {} if self.tool_call_id is None else {"tool_call_id": self.tool_call_id}
        return {"role": self.role, "content": self.text, **calls, **answered}


class Conversation(Fields):
    """Messages, the tools that may be called, and how they become a prompt."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    tools: Annotated[list[dict[str, Any]], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: TemplateVariables | None = None

    @cached_property
    def offer(self) -> Tools:
        """The tools.

        Raises:
            RequestError: they are malformed, or the choice is none of them.
        """
        return read_tools(self.tools, self.tool_choice, parallel=self.parallel_tool_calls)


class ChatRequest(GenerationFields, Conversation):
    """A conversation to answer."""

    max_completion_tokens: TokenCount | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    modalities: list[Literal["text"]] | None = None

    @property
    def logprob_count(self) -> int | None:
        """How many tokens to report at each position, besides the one that was drawn."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def token_limit(self) -> int | None:
        """The most tokens of a reply."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def check(self, most_logprobs: int) -> None:
        """Refuse what no field forbids alone.

        Raises:
            ApiError: a sentence about the fields that do not go together.
        """
        self.check_together(most_logprobs, self.logprob_count)
        if self.top_logprobs is not None and not self.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs: true.", param="top_logprobs")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise ApiError(400, "max_tokens and max_completion_tokens differ; give one of them.", param="max_tokens")

    def params(self, special_ids: Mapping[str, int]) -> SamplingParams:
        """What is asked of the sampler; `special_ids` is `Tokenizer.special_by_text`.

        With tools, special tokens are spelt out, so that calls can be read.

        Raises:
            ApiError, RequestError: fields that do not go together.
        """
        params = self.sampling_params(max_tokens=self.token_limit, logprobs=self.logprob_count)
        if not self.offer.shown:
            return params
        changes: dict[str, Any] = {"skip_special_tokens": False}
        if grammar := tool_grammar(self.offer, special_ids):
            if params.structured_outputs is not None:
                raise ApiError(400, "tools that must be called leave no room for another format; give one of them.")
            changes["structured_outputs"] = StructuredOutputs(grammar=grammar)
        for name, more in single_call_stop(self.offer, special_ids).items():
            changes[name] = [*(getattr(params, name) or ()), *more]
        return replace(params, **changes)
