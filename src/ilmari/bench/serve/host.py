"""How busy the machine is while a server on it is measured."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_STAT, _MEMINFO = Path("/proc/stat"), Path("/proc/meminfo")
_INTERVAL_S = 1.0


@asynccontextmanager
async def host_load() -> AsyncIterator[dict[str, float]]:
    """What is yielded has figures once the block has ended; where the system does not tell, it stays empty.

    cpu_percent: of all cores, what was busy on average. memory_gb: at most in use, in 10^9 bytes. client_cpu_percent:
    what this process took, of one core.
    """
    load: dict[str, float] = {}
    if not (_STAT.exists() and _MEMINFO.exists()):
        yield load
        return
    samples = [_memory_bytes()]
    sampling = asyncio.create_task(_sample(samples))
    began, own, (busy, total) = time.perf_counter(), time.process_time(), _cpu_ticks()
    try:
        yield load
    finally:
        sampling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sampling
    busy_after, total_after = _cpu_ticks()
    load |= {
        "cpu_percent": 100 * (busy_after - busy) / max(1, total_after - total),
        "memory_gb": max(*samples, _memory_bytes()) / 1e9,
        "client_cpu_percent": 100 * (time.process_time() - own) / (time.perf_counter() - began),
    }


async def _sample(samples: list[int]) -> None:
    while True:
        await asyncio.sleep(_INTERVAL_S)
        samples.append(_memory_bytes())


def _cpu_ticks() -> tuple[int, int]:
    """Busy ones and all, of all CPUs since the system started; waiting for a disk is idle."""
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, _STAT.read_text().split(None, 9)[1:9])
    busy = user + nice + system + irq + softirq + steal
    return busy, busy + idle + iowait


def _memory_bytes() -> int:
    """In use: what could not be given to a new process."""
    values = {line.split(":")[0]: int(line.split()[1]) for line in _MEMINFO.read_text().splitlines()}
    return 1024 * (values["MemTotal"] - values["MemAvailable"])
