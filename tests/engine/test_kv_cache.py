"""How much memory a KV cache has of the system, as the system itself counts it."""

import mmap
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ilmari.artifact.artifact import Artifact
from ilmari.engine import kv_cache
from ilmari.engine.kv_cache import KvCache

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SIZE = 256 << 20


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@pytest.mark.parametrize(("available", "ranks_here", "share"), [(None, 1, 1.0), (4 * SIZE, 1, 1.0), (SIZE, 2, 0.25)])
def test_memory_comes_when_it_is_asked_for(
    compile_tiny: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    available: int | None,
    ranks_here: int,
    share: float,
) -> None:
    """None of it before; then all, or half of what is available, divided among the ranks."""
    monkeypatch.setattr(kv_cache, "available_bytes", lambda: available)
    plan = Artifact.load(compile_tiny("w8a16")).manifest.plan
    before = resident()
    cache = KvCache(plan, SIZE // (kv_cache.BLOCK_SIZE * plan.kv_bytes_per_token))
    untouched = resident() - before
    cache.occupy(ranks_here)
    assert untouched < SIZE // 16
    assert resident() - before == pytest.approx(share * SIZE, abs=SIZE // 16)
