"""POST /v1/completions: texts or token ids to continue."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import cast

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from ilmari.server.answer import Answer
from ilmari.server.completion_request import CompletionRequest
from ilmari.server.documented import GENERATION_ERRORS, json_or_stream
from ilmari.server.generation import Generation, Piece, Prompt, gathered
from ilmari.server.logprobs import CompletionLogprobsWriter, prompt_logprobs
from ilmari.server.prompts import encode
from ilmari.server.responses import Completion, CompletionChoice, Reason
from ilmari.server.service import service_of
from ilmari.server.sse import event_stream
from ilmari.server.usage import usage_of

router = APIRouter()


@router.post(
    "/v1/completions",
    response_model=None,
    responses=json_or_stream(Completion, Completion) | GENERATION_ERRORS,
)
async def completions(body: CompletionRequest, request: Request) -> Response:
    """Continue one prompt or several; with `stream`, as server-sent events."""
    body.check(service_of(request).options.max_logprobs)
    echoed = body.logprobs if body.echo and body.prompt_logprobs is None else body.prompt_logprobs
    params = body.sampling_params(logprobs=body.logprobs, prompt_logprobs=echoed)
    answer = Answer.to(request, body, params, "cmpl")
    if body.stream:
        return await event_stream(_chunks(answer, body))
    return JSONResponse(await _whole(answer, body))


async def _whole(answer: Answer, body: CompletionRequest) -> Completion:
    async with answer.generating(len(body.prompts), _reader(answer, body)) as (generation, pieces):
        replies = await gathered(pieces, generation.replies)
        choices = [_Choice(body, generation, piece.index).more(piece) for piece in replies]
    return {**answer.head, "object": "text_completion", "choices": choices, "usage": usage_of(generation)}


async def _chunks(answer: Answer, body: CompletionRequest) -> AsyncGenerator[Completion]:
    async with answer.generating(len(body.prompts), _reader(answer, body)) as (generation, pieces):
        choices = [_Choice(body, generation, index) for index in range(generation.replies)]
        async for piece in pieces:
            chunk = {**answer.head, "object": "text_completion", "choices": [choices[piece.index].more(piece)]}
            yield cast(Completion, chunk | answer.usage_within(generation))
    if answer.usage_wanted:
        yield {**answer.head, "object": "text_completion", "choices": [], "usage": usage_of(generation)}


def _reader(answer: Answer, body: CompletionRequest) -> Callable[[], list[Prompt]]:
    def read() -> list[Prompt]:
        return [
            Prompt(encode(answer.model, prompt), prompt if isinstance(prompt, str) else None) for prompt in body.prompts
        ]

    return read


class _Choice:
    """One completion, piece by piece."""

    def __init__(self, body: CompletionRequest, generation: Generation, index: int) -> None:
        self._body = body
        self._tokenizer = generation.model.engine.tokenizer
        self._prompt = generation.prompts[index // generation.n]
        self._logprobs = CompletionLogprobsWriter(self._tokenizer)
        self._begun = False

    def more(self, piece: Piece) -> CompletionChoice:
        """A piece as the client gets it; the first has the prompt, if that is to be echoed."""
        first, self._begun = not self._begun, True
        text, ids, positions = piece.text, piece.token_ids, [*(piece.logprobs or ())]
        if first and self._body.echo:
            text = self._echo() + text
            ids = self._prompt.ids + ids
            positions = [*(piece.prompt_logprobs or ()), *positions]
        choice: CompletionChoice = {
            "index": piece.index,
            "text": text,
            "logprobs": None if self._body.logprobs is None else self._logprobs.write(ids, positions),
            "finish_reason": cast(Reason | None, piece.finish_reason),
        }
        if self._body.prompt_logprobs is not None and piece.prompt_logprobs is not None:
            choice["prompt_logprobs"] = prompt_logprobs(self._tokenizer, piece.prompt_logprobs)
        return choice

    def _echo(self) -> str:
        return self._tokenizer.decode(self._prompt.ids) if self._prompt.text is None else self._prompt.text
