"""The bodies of POST /tokenize and POST /detokenize."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ilmari.server.chat_request import Conversation
from ilmari.server.request_fields import Fields, Name, TokenId


class TokenizeText(Fields):
    """A text; `add_special_tokens` puts the model's bos token first, if it has one."""

    model: Name | None = None
    prompt: str
    add_special_tokens: bool = True
    return_token_strs: bool = False


class TokenizeChat(Conversation):
    """A conversation, by the model's template."""

    model: Name | None = None
    return_token_strs: bool = False


class DetokenizeRequest(Fields):
    """Token ids."""

    model: Name | None = None
    tokens: Annotated[list[TokenId], Field(max_length=1 << 20)]
