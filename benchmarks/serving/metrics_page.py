"""What a server's /metrics say."""

from __future__ import annotations

from benchmarks.serving.client import Address, fetch


async def read_metrics(address: Address) -> dict[str, float]:
    """Each metric's samples added up, whatever their labels."""
    status, page = await fetch(address, "/metrics")
    assert status == 200
    totals: dict[str, float] = {}
    for line in page.decode().splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            name = name.partition("{")[0]
            totals[name] = totals.get(name, 0.0) + float(value)
    return totals
