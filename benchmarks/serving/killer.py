"""Kills a server's engine under load, and notes when it was away."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.serving.client import Address, fetch
from benchmarks.serving.crowd import Crowd
from benchmarks.serving.processes import engine_of
from benchmarks.serving.servers import Server

POLL_S = 0.05
BACK_S = 120.0
"""The longest that an engine may be away."""


@dataclass(frozen=True)
class Kill:
    """From the signal to the first reply that says that the server is ready again; and who was being answered."""

    began: float
    ended: float
    in_flight: frozenset[str]


async def kill_engine(server: Server, crowd: Crowd) -> Kill:
    """Kill it while somebody is being answered, and wait until it is back."""
    pid = engine_of(server.pid)
    assert pid is not None
    while not crowd.in_flight:
        await asyncio.sleep(POLL_S)
    victims, began = crowd.in_flight, time.monotonic()
    os.kill(pid, signal.SIGKILL)
    while engine_of(server.pid) in (pid, None) or not await _ready(server.address):
        if time.monotonic() - began > BACK_S:
            raise SystemExit(f"the engine does not come back within {BACK_S:g} s")
        await asyncio.sleep(POLL_S)
    return Kill(began, time.monotonic(), victims)


async def kill_at(times: Sequence[float], server: Server, crowd: Crowd) -> list[Kill]:
    """A kill at each of these times of the monotonic clock, or as soon as the engine is back from the one before."""
    kills = []
    for when in times:
        await asyncio.sleep(max(0.0, when - time.monotonic()))
        kills.append(await kill_engine(server, crowd))
    return kills


async def _ready(address: Address) -> bool:
    status, _ = await fetch(address, "/ready")
    return status == 200
