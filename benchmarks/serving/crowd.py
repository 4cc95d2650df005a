"""Clients who ask without end, each one request after the other."""

from __future__ import annotations

import asyncio
import itertools
import random
import time

from benchmarks.serving.client import Address
from benchmarks.serving.question import Limits, Question, random_question
from benchmarks.serving.visit import Visit, visit

REST_S = 0.2  # the longest pause of a client who was turned away: shorter than asked for, as the rude ones do


class Crowd:
    """So many clients at one server; `visits` has what became of every request."""

    def __init__(self, address: Address, limits: Limits, clients: int) -> None:
        self._address = address
        self._limits = limits
        self._clients = clients
        self._numbers = itertools.count()
        self._in_flight: set[str] = set()
        self.visits: list[Visit] = []

    @property
    def in_flight(self) -> frozenset[str]:
        """The requests that have begun and not ended."""
        return frozenset(self._in_flight)

    async def ask(self, question: Question) -> Visit:
        """One request."""
        request_id = f"soak-{next(self._numbers)}"
        self._in_flight.add(request_id)
        try:
            result = await visit(self._address, question, request_id)
        finally:
            self._in_flight.discard(request_id)
        self.visits.append(result)
        return result

    async def besiege(self, until: float) -> None:
        """Ask until this time of the monotonic clock, and wait for the last replies."""
        await asyncio.gather(*(self._client(random.Random(number), until) for number in range(self._clients)))

    async def _client(self, rng: random.Random, until: float) -> None:
        while time.monotonic() < until:
            result = await self.ask(random_question(rng, self._limits))
            if result.status in (429, 503):
                await asyncio.sleep(rng.uniform(0, REST_S))
