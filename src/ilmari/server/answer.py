"""What the two generating endpoints have in common: from a checked body to replies that are being written."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request

from ilmari.engine.sampling_params import SamplingParams
from ilmari.server.exchange import Exchange, exchange_of
from ilmari.server.generation import Generation, Piece, Prompt
from ilmari.server.request_fields import GenerationFields
from ilmari.server.responses import Head
from ilmari.server.served_model import ServedModel
from ilmari.server.service import Service, service_of
from ilmari.server.usage import Usage, usage_of


@dataclass(frozen=True)
class Answer:
    """One request that generates, before its prompts are read."""

    service: Service
    exchange: Exchange
    model: ServedModel
    body: GenerationFields
    params: SamplingParams
    head: Head

    @classmethod
    def to(cls, request: Request, body: GenerationFields, params: SamplingParams, kind: str) -> Answer:
        """kind: what its id begins with.

        Raises:
            ApiError: there is no such model.
        """
        service, exchange = service_of(request), exchange_of(request)
        model = service.models.named(body.model)
        exchange.model, exchange.user = model.name, body.user
        head: Head = {
            "id": f"{kind}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": body.model or model.name,
            "system_fingerprint": model.fingerprint,
        }
        return cls(service, exchange, model, body, params, head)

    @asynccontextmanager
    async def generating(
        self, prompts: int, read: Callable[[], list[Prompt]]
    ) -> AsyncIterator[tuple[Generation, AsyncGenerator[Piece]]]:
        """Replies to as many prompts as `prompts` says, read by `read` in a thread; they end with the block.

        Raises:
            ApiError, RequestError: the server is full, or a prompt cannot be served.
        """
        n = self.body.n or 1
        with self.service.admission.admit(prompts * n):
            generation = Generation(
                self.service,
                self.model,
                self.exchange,
                await self.service.threads.run(read),
                self.params,
                n,
                self._salt,
            )
            async with aclosing(generation.pieces()) as pieces:
                yield generation, pieces

    @property
    def usage_wanted(self) -> bool:
        """Whether a stream is to end with the usage."""
        return self.body.stream_options is not None and self.body.stream_options.include_usage

    def usage_within(self, generation: Generation) -> dict[str, Usage | None]:
        """The field `usage` of a chunk that is not the last: absent, null, or so far."""
        if self.body.stream_options is not None and self.body.stream_options.continuous_usage_stats:
            return {"usage": usage_of(generation)}
        return {"usage": None} if self.usage_wanted else {}

    @property
    def _salt(self) -> str:
        """Different API keys never share blocks of the prefix cache, whose speed would tell what others ask."""
        key = "" if self.exchange.key is None else str(self.exchange.key)
        return f"{key}:{self.body.cache_salt}" if self.body.cache_salt is not None else key
