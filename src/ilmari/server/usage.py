"""How many tokens a request took."""

from __future__ import annotations

from typing_extensions import TypedDict

from ilmari.server.generation import Generation


class PromptTokensDetails(TypedDict):
    """Of the prompt's tokens."""

    cached_tokens: int


class Usage(TypedDict):
    """All replies together; a prompt counts once, however many replies it has."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


def usage_of(generation: Generation) -> Usage:
    """So far."""
    return {
        "prompt_tokens": generation.prompt_tokens,
        "completion_tokens": generation.completion_tokens,
        "total_tokens": generation.prompt_tokens + generation.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": generation.cached_tokens},
    }
