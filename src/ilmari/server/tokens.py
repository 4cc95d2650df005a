"""POST /tokenize and POST /detokenize: text to token ids and back, as the model's prompts are read."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from pydantic import Discriminator, Tag
from typing_extensions import TypedDict

from ilmari.server.documented import EVERYWHERE, errors
from ilmari.server.exchange import exchange_of
from ilmari.server.logprobs import token_text
from ilmari.server.prompts import render
from ilmari.server.service import service_of
from ilmari.server.token_request import DetokenizeRequest, TokenizeChat, TokenizeText

router = APIRouter()

_ERRORS = EVERYWHERE | errors(400, 404, 503)


def _kind(value: Any) -> str:
    return "chat" if isinstance(value, TokenizeChat) or (isinstance(value, dict) and "messages" in value) else "text"


TokenizeRequest = Annotated[
    Annotated[TokenizeText, Tag("text")] | Annotated[TokenizeChat, Tag("chat")], Discriminator(_kind)
]


class Tokens(TypedDict):
    """Token ids, and each in a text of its own if that was asked for."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class Text(TypedDict):
    """What token ids say, special tokens spelt out."""

    prompt: str


@router.post("/tokenize", responses=_ERRORS)
async def tokenize(body: Annotated[TokenizeRequest, Body()], request: Request) -> Tokens:
    """The token ids of a text or of a conversation."""
    service = service_of(request)
    model = service.models.named(body.model)
    exchange_of(request).model = model.name
    tokenizer = model.engine.tokenizer

    def encode() -> Tokens:
        if isinstance(body, TokenizeChat):
            ids = tokenizer.encode(render(model, body), add_bos=False, parse_special=True)
        else:
            ids = tokenizer.encode(body.prompt, add_bos=body.add_special_tokens)
        texts = [token_text(tokenizer, token_id) for token_id in ids] if body.return_token_strs else None
        return {"count": len(ids), "max_model_len": model.max_model_len, "tokens": ids, "token_strs": texts}

    return await service.threads.run(encode)


@router.post("/detokenize", responses=_ERRORS)
async def detokenize(body: DetokenizeRequest, request: Request) -> Text:
    """The text of token ids."""
    service = service_of(request)
    model = service.models.named(body.model)
    exchange_of(request).model = model.name

    def decode() -> Text:
        return {"prompt": model.engine.tokenizer.decode(body.tokens, skip_special_tokens=False)}

    return await service.threads.run(decode)
