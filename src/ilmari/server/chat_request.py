"""The body of POST /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from ilmari.server.errors import ApiError
from ilmari.server.limits import MAX_MESSAGES
from ilmari.server.request_fields import Fields, GenerationFields, TemplateVariables, TokenCount, TopLogprobs


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


class ChatMessage(Fields):
    """One turn. The fields that are only ever null come back from clients that send a reply as they got it."""

    role: Literal["system", "user", "assistant"]
    content: Content
    refusal: None = None
    annotations: None = None
    audio: None = None
    function_call: None = None
    tool_calls: None = None

    @property
    def text(self) -> str:
        """Its content, parts in a row."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class Conversation(Fields):
    """Messages and how they become a prompt."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: TemplateVariables | None = None

    def plain_messages(self) -> list[dict[str, str]]:
        """As the template takes them."""
        return [{"role": message.role, "content": message.text} for message in self.messages]


class ChatRequest(GenerationFields, Conversation):
    """A conversation to answer."""

    max_completion_tokens: TokenCount | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    parallel_tool_calls: Literal[True] | None = None
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
