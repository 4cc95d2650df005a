"""The body of POST /v1/completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from ilmari.server.errors import ApiError
from ilmari.server.limits import MAX_PROMPTS, MAX_SEQUENCES
from ilmari.server.request_fields import GenerationFields, TokenId, TopLogprobs

_Ids = Annotated[list[TokenId], Field(min_length=1)]


def _kind(value: Any) -> str:
    if not isinstance(value, list):
        return "text"
    first = value[0] if value else None
    return "ids" if isinstance(first, int) else "lists of ids" if isinstance(first, list) else "texts"


Prompt = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[_Ids, Tag("ids")]
    | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS), Tag("texts")]
    | Annotated[list[_Ids], Field(min_length=1, max_length=MAX_PROMPTS), Tag("lists of ids")],
    Discriminator(_kind),
]


class CompletionRequest(GenerationFields):
    """Texts or lists of token ids to continue."""

    prompt: Prompt
    echo: bool | None = None
    logprobs: TopLogprobs | None = None
    best_of: int | None = None
    suffix: Literal[""] | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt, as text or as token ids."""
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)

    def check(self, most_logprobs: int) -> None:
        """Refuse what no field forbids alone.

        Raises:
            ApiError: a sentence about the fields that do not go together.
        """
        self.check_together(most_logprobs, self.logprobs)
        n = self.n or 1
        if self.best_of is not None and self.best_of != n:
            raise ApiError(
                400, f"best_of is {self.best_of} and n is {n}; all replies are given, so they must be equal."
            )
        if len(self.prompts) * n > MAX_SEQUENCES:
            raise ApiError(
                400, f"{len(self.prompts)} prompts with n {n} exceed {MAX_SEQUENCES} replies; send less at once."
            )
