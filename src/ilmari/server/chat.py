"""POST /v1/chat/completions: conversations to answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import cast

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from ilmari.server.answer import Answer
from ilmari.server.chat_reply import ChatReply
from ilmari.server.chat_request import ChatRequest
from ilmari.server.documented import GENERATION_ERRORS, json_or_stream
from ilmari.server.generation import Piece, Prompt, gathered
from ilmari.server.logprobs import ChatLogprobs, chat_logprobs, prompt_logprobs
from ilmari.server.prompts import encode_chat
from ilmari.server.responses import (
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
    Reason,
)
from ilmari.server.service import service_of
from ilmari.server.sse import event_stream
from ilmari.server.usage import usage_of

router = APIRouter()


@router.post(
    "/v1/chat/completions",
    response_model=None,
    responses=json_or_stream(ChatCompletion, ChatCompletionChunk) | GENERATION_ERRORS,
)
async def chat_completions(body: ChatRequest, request: Request) -> Response:
    """Answer a conversation; with `stream`, as server-sent events."""
    service = service_of(request)
    body.check(service.options.max_logprobs)
    params = body.params(service.models.named(body.model).engine.tokenizer.special_by_text)
    answer = Answer.to(request, body, params, "chatcmpl")
    if body.stream:
        return await event_stream(_chunks(answer, body))
    return JSONResponse(await _whole(answer, body))


async def _whole(answer: Answer, body: ChatRequest) -> ChatCompletion:
    async with answer.generating(1, lambda: [Prompt(encode_chat(answer.model, body))]) as (generation, pieces):
        replies = await gathered(pieces, generation.replies)
    choices = [_choice(answer, body, reply) for reply in replies]
    completion = cast(
        ChatCompletion,
        {**answer.head, "object": "chat.completion", "choices": choices, "usage": usage_of(generation)},
    )
    if body.prompt_logprobs is not None and replies[0].prompt_logprobs is not None:
        completion["prompt_logprobs"] = prompt_logprobs(answer.model.engine.tokenizer, replies[0].prompt_logprobs)
    return completion


async def _chunks(answer: Answer, body: ChatRequest) -> AsyncGenerator[ChatCompletionChunk]:
    async with answer.generating(1, lambda: [Prompt(encode_chat(answer.model, body))]) as (generation, pieces):
        replies = [ChatReply(body.offer.shown) for _ in range(generation.replies)]
        async for piece in pieces:
            reply = replies[piece.index]
            choice: ChatChunkChoice = {
                "index": piece.index,
                "delta": reply.delta(piece.text, last=piece.finish_reason is not None),
                "logprobs": _logprobs(answer, body, piece),
                "finish_reason": reply.reason(piece.finish_reason),
            }
            chunk = {**answer.head, "object": "chat.completion.chunk", "choices": [choice]}
            yield cast(ChatCompletionChunk, chunk | answer.usage_within(generation))
    if answer.usage_wanted:
        yield {**answer.head, "object": "chat.completion.chunk", "choices": [], "usage": usage_of(generation)}


def _choice(answer: Answer, body: ChatRequest, piece: Piece) -> ChatChoice:
    reply = ChatReply(body.offer.shown)
    return {
        "index": piece.index,
        "message": reply.message(piece.text),
        "logprobs": _logprobs(answer, body, piece),
        "finish_reason": cast(Reason, reply.reason(piece.finish_reason)),
    }


def _logprobs(answer: Answer, body: ChatRequest, piece: Piece) -> ChatLogprobs | None:
    """Of the tokens of the text: a token that ended the reply is none of them."""
    if piece.logprobs is None or body.logprob_count is None:
        return None
    tokenizer = answer.model.engine.tokenizer
    stop_ids = {*(answer.params.stop_token_ids or ()), *(() if body.ignore_eos else tokenizer.stop_token_ids)}
    shown = len(piece.token_ids)
    if piece.finish_reason == "stop" and piece.token_ids and piece.token_ids[-1] in stop_ids:
        shown -= 1
    return chat_logprobs(tokenizer, piece.token_ids[:shown], piece.logprobs[:shown], body.logprob_count)
