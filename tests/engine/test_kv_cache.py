"""How much memory a KV cache has of the system, as the system itself counts it."""

import mmap
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ilmari.artifact.artifact import Artifact
from ilmari.artifact.manifest import Manifest
from ilmari.artifact.params import params_bytes
from ilmari.engine import kv_cache
from ilmari.engine.kv_cache import KvCache, blocks_for, bytes_for, cache_blocks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SIZE = 256 << 20


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@pytest.fixture
def manifest(compile_tiny: Callable[..., Path]) -> Manifest:
    return Artifact.load(compile_tiny("w8a16")).manifest


@pytest.mark.parametrize(("room", "ranks_here", "share"), [(None, 1, 1.0), (4 * SIZE, 1, 1.0), (SIZE // 4, 2, 0.25)])
def test_memory_comes_when_it_is_asked_for(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, room: int | None, ranks_here: int, share: float
) -> None:
    """None of it before; then all, or as much as there is beside the weights of all ranks."""
    available = None if room is None else ranks_here * (room + params_bytes(manifest.plan))
    monkeypatch.setattr(kv_cache, "available_bytes", lambda: available)
    before = resident()
    cache = KvCache(manifest.plan, SIZE // bytes_for(manifest, 1))
    untouched = resident() - before
    cache.occupy(ranks_here)
    assert untouched < SIZE // 16
    assert resident() - before == pytest.approx(share * SIZE, abs=SIZE // 16)


def test_the_weights_need_memory_too(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of what they leave is for the cache of one rank, but at least one sequence."""
    one = bytes_for(manifest, manifest.max_seq_len)
    monkeypatch.setattr(kv_cache, "available_bytes", lambda: 2 * (params_bytes(manifest.plan) + 6 * one))
    assert cache_blocks(manifest, 16, None, 2) == 3 * blocks_for(manifest.max_seq_len)
    assert cache_blocks(manifest, 2, None, 2) == 2 * blocks_for(manifest.max_seq_len)
    assert cache_blocks(manifest, 16, 5 * one, 2) == 5 * blocks_for(manifest.max_seq_len)
    monkeypatch.setattr(kv_cache, "available_bytes", lambda: params_bytes(manifest.plan))
    assert cache_blocks(manifest, 16, None, 2) == blocks_for(manifest.max_seq_len)
