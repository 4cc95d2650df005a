"""An engine that continues prompts by a rule, in the shape of `EngineClient`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from types import SimpleNamespace
from typing import Literal, cast

from checkpoints import EOS
from fastapi import FastAPI

from ilmari.engine.client import EngineClient, EngineDead
from ilmari.engine.logprobs import TokenLogprob
from ilmari.engine.messages import Delta, Stats
from ilmari.engine.sampling_params import SamplingParams
from ilmari.model.chat import ChatTemplate
from ilmari.model.tokenizer import Tokenizer

MakeApp = Callable[..., FastAPI]
"""The fixture `make_app`: an application over the engine, with the options it is given."""

MAX_PROMPT_LEN = 128
MAX_SEQ_LEN = 256


class FakeEngine:
    """Says `reply`, then its end token, `burst` tokens at a time; what it was asked is kept.

    gate: nothing is said while it is closed. waits_after and dies_after: deltas of a request until the gate
    closes, or the engine is dead.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, reply: str = "Hello, wörld!") -> None:
        self.tokenizer = tokenizer
        self.chat_template = template
        self.reply = reply
        self.burst = 1
        self.cached_tokens = 0
        self.error: str | None = None
        self.waits_after: int | None = None
        self.dies_after: int | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: dict[str, tuple[list[int], SamplingParams, str]] = {}
        self.running: set[str] = set()
        self.ended_early: list[str] = []
        self.state: Literal["starting", "ready", "dead"] = "ready"
        self.restarts = 0
        self.stats = Stats(running=1, waiting=2, kv_blocks=10, kv_blocks_used=5, prefix_queries=7, prefix_hits=3)
        self.manifest = SimpleNamespace(
            name="tiny",
            max_prompt_len=MAX_PROMPT_LEN,
            max_seq_len=MAX_SEQ_LEN,
            model=SimpleNamespace(vocab_size=tokenizer.vocab_size),
            files=(SimpleNamespace(sha256="ab"),),
        )

    @property
    def client(self) -> EngineClient:
        """Itself, as the server's types know it."""
        return cast(EngineClient, self)

    async def start(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    def finish(self, request_id: str) -> None:
        """End a request."""
        self.running.discard(request_id)

    async def generate(
        self, request_id: str, prompt: list[int], params: SamplingParams, cache_salt: str = ""
    ) -> AsyncGenerator[Delta]:
        """The reply, up to max_tokens; a token and its most probable rival, `count` below, in logprobs."""
        assert request_id not in self.asked
        if self.state != "ready":
            raise EngineDead
        self.asked[request_id] = prompt, params, cache_salt
        self.running.add(request_id)
        try:
            async for delta in self._deltas(request_id, prompt, params):
                yield delta
        except GeneratorExit:
            self.ended_early.append(request_id)
            raise
        except asyncio.CancelledError:
            self.ended_early.append(request_id)
            raise
        finally:
            self.running.discard(request_id)

    async def _deltas(self, request_id: str, prompt: list[int], params: SamplingParams) -> AsyncGenerator[Delta]:
        if self.error is not None:
            yield Delta(request_id, error=self.error)
            return
        ids = [*self.tokenizer.encode(self.reply, add_bos=False), EOS]
        if params.ignore_eos:
            ids = ids[:-1] * 100
        limit = min(params.max_tokens or MAX_SEQ_LEN, MAX_SEQ_LEN - len(prompt))
        said = ids[:limit]
        for count, start in enumerate(range(0, len(said), self.burst)):
            if count == self.waits_after:
                self.gate.clear()
            await self.gate.wait()
            await asyncio.sleep(0)
            if count == self.dies_after:
                self.state = "dead"
                raise EngineDead
            some = said[start : start + self.burst]
            last = start + self.burst >= len(said)
            yield Delta(
                request_id,
                some,
                None if params.logprobs is None else [_position(token, params.logprobs) for token in some],
                _prompt_positions(prompt, params.prompt_logprobs) if start == 0 else None,
                self.cached_tokens if start == 0 else 0,
                ("stop" if some[-1] == EOS else "length") if last else None,
            )


def _position(token: int, count: int) -> list[TokenLogprob]:
    rivals = [TokenLogprob(other, -2.0 - other, 2 + other) for other in range(max(0, count - 1))]
    return [TokenLogprob(token, -0.25, 1), *rivals]


def _prompt_positions(prompt: list[int], count: int | None) -> list[list[TokenLogprob] | None] | None:
    if count is None:
        return None
    return [None, *(_position(token, count) for token in prompt[1:])]
