"""One request's replies as the engine writes them, whether one or many, streamed or not."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from ilmari.engine.logprobs import TokenLogprob
from ilmari.engine.sampling_params import SamplingParams
from ilmari.engine.text_stream import TextStream
from ilmari.server.errors import ApiError
from ilmari.server.exchange import Exchange
from ilmari.server.limits import MAX_LOGPROB_ENTRIES
from ilmari.server.served_model import ServedModel
from ilmari.server.service import Service

_SEEDS = 2**63


@dataclass(frozen=True)
class Prompt:
    """A prompt's token ids, and its text if that is how it came."""

    ids: list[int]
    text: str | None = None


@dataclass(frozen=True)
class Piece:
    """More of reply `index`: new text, the tokens that came, and with the last piece why it ended.

    Text may come later than its tokens, while it could be the beginning of a stop string or half a character.
    """

    index: int
    text: str
    token_ids: list[int]
    logprobs: list[list[TokenLogprob]] | None = None
    prompt_logprobs: list[list[TokenLogprob] | None] | None = None
    finish_reason: str | None = None


class Generation:
    """`n` replies to each prompt; reply `i` is to prompt `i // n`.

    cached_tokens: of the prompts, found in the prefix cache; completion_tokens: so far.
    """

    def __init__(
        self,
        service: Service,
        model: ServedModel,
        exchange: Exchange,
        prompts: list[Prompt],
        params: SamplingParams,
        n: int,
        salt: str,
    ) -> None:
        """
        Raises:
            ApiError: too many log-probabilities are asked for.
            RequestError: a parameter that the model does not take.
        """
        params.check_vocabulary(model.engine.manifest.model.vocab_size)
        _check_logprobs(model, prompts, params, n)
        if params.seed is None and service.seeds is not None:
            params = replace(params, seed=service.seeds.getrandbits(63))
        self.model = model
        self.prompts = prompts
        self.n = n
        self.params = params
        self.cached_tokens = 0
        self.completion_tokens = 0
        self.prompt_tokens = sum(len(prompt.ids) for prompt in prompts)
        self._metrics = service.metrics
        self._exchange = exchange
        self._salt = salt
        self._id = uuid.uuid4().hex
        exchange.prompt_tokens = self.prompt_tokens
        service.metrics.prompt_tokens.labels(model.name).inc(self.prompt_tokens)

    @property
    def replies(self) -> int:
        """How many there will be."""
        return len(self.prompts) * self.n

    async def pieces(self) -> AsyncGenerator[Piece]:
        """Pieces of all replies as they come; closing it ends them in the engine.

        Raises:
            ApiError, EngineDead: one of them failed; the others are ended.
        """
        if self.replies == 1:
            async with aclosing(self._reply(0)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        queue: asyncio.Queue[Piece | Exception | None] = asyncio.Queue()
        tasks = [asyncio.create_task(self._pump(index, queue)) for index in range(self.replies)]
        try:
            running = len(tasks)
            while running:
                item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    running -= 1
                else:
                    yield item
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _pump(self, index: int, queue: asyncio.Queue[Piece | Exception | None]) -> None:
        try:
            async with aclosing(self._reply(index)) as pieces:
                async for piece in pieces:
                    queue.put_nowait(piece)
        except Exception as error:
            queue.put_nowait(error)
        else:
            queue.put_nowait(None)

    async def _reply(self, index: int) -> AsyncGenerator[Piece]:
        engine, params = self.model.engine, self._params(index)
        text_stream = TextStream(engine.tokenizer, params, engine.tokenizer.stop_token_ids)
        first_after: float | None = None
        latest = 0.0
        tokens = 0
        deltas = engine.generate(f"{self._id}-{index}", self.prompts[index // self.n].ids, params, self._salt)
        async with aclosing(deltas):
            async for delta in deltas:
                if delta.error is not None:
                    raise ApiError(400, delta.error)
                if delta.finish_reason == "abort":
                    raise ApiError(500, "The engine gave up this request.")
                if index % self.n == 0:
                    self.cached_tokens += delta.cached_tokens
                if delta.token_ids:
                    now = time.monotonic()
                    if first_after is None:
                        first_after = now - self._exchange.began
                    else:
                        self._metrics.between_tokens.labels(self.model.name).observe(now - latest)
                    latest = now
                text, taken = _advance(text_stream, delta.token_ids, delta.finish_reason is not None)
                tokens += taken
                self._count(taken)
                reason = "stop" if text_stream.stopped else delta.finish_reason
                yield Piece(
                    index,
                    text,
                    delta.token_ids[:taken],
                    None if delta.logprobs is None else delta.logprobs[:taken],
                    delta.prompt_logprobs,
                    reason,
                )
                if reason is not None:
                    seconds = time.monotonic() - self._exchange.began
                    self._metrics.finished(self.model, reason, tokens, first_after, seconds)
                    return

    def _params(self, index: int) -> SamplingParams:
        """With a seed of its own, and no more tokens than the model has room for."""
        room = self.model.max_model_len - len(self.prompts[index // self.n].ids)
        wanted, seed = self.params.max_tokens, self.params.seed
        return replace(
            self.params,
            max_tokens=room if wanted is None else min(wanted, room),
            seed=None if seed is None else (seed + index % self.n) % _SEEDS,
        )

    def _count(self, tokens: int) -> None:
        self.completion_tokens += tokens
        self._exchange.completion_tokens = self.completion_tokens
        self._metrics.generation_tokens.labels(self.model.name).inc(tokens)


def _check_logprobs(model: ServedModel, prompts: list[Prompt], params: SamplingParams, n: int) -> None:
    length = min(params.max_tokens or model.max_model_len, model.max_model_len)
    at_each, before = (0 if count is None else count + 1 for count in (params.logprobs, params.prompt_logprobs))
    most = n * sum(at_each * length + before * len(prompt.ids) for prompt in prompts)
    if most > MAX_LOGPROB_ENTRIES:
        raise ApiError(
            400,
            f"This may take {most:,} log-probabilities and one answer has at most {MAX_LOGPROB_ENTRIES:,}; lower "
            "max_tokens, n or logprobs.",
        )


def _advance(stream: TextStream, token_ids: list[int], finished: bool) -> tuple[str, int]:
    """New text, and how many of the tokens count: those up to a stop string, however many came at once."""
    text = ""
    for count, token_id in enumerate(token_ids, start=1):
        text += stream.push([token_id], finished and count == len(token_ids))
        if stream.stopped:
            return text, count
    if finished and not token_ids:
        text = stream.push([], True)
    return text, len(token_ids)


async def gathered(pieces: AsyncGenerator[Piece], replies: int) -> list[Piece]:
    """Each reply as one piece."""
    whole: list[list[Piece]] = [[] for _ in range(replies)]
    async for piece in pieces:
        whole[piece.index].append(piece)
    return [_joined(parts) for parts in whole]


def _joined(parts: list[Piece]) -> Piece:
    logprobs = [position for part in parts for position in part.logprobs or ()]
    return Piece(
        index=parts[0].index,
        text="".join(part.text for part in parts),
        token_ids=[token_id for part in parts for token_id in part.token_ids],
        logprobs=logprobs if any(part.logprobs is not None for part in parts) else None,
        prompt_logprobs=next((part.prompt_logprobs for part in parts if part.prompt_logprobs is not None), None),
        finish_reason=parts[-1].finish_reason,
    )
