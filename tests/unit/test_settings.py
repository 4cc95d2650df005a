"""The environment decides how many threads there are and where downloads go."""

import os
from pathlib import Path

import pytest

from ilmari import settings
from ilmari.errors import ConfigError
from ilmari.settings import cache_dir, num_threads


@pytest.fixture(autouse=True)
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 8 CPUs, all for this process, without a control group; the folder to make one in."""
    monkeypatch.delenv("ILMARI_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(settings, "CGROUP", tmp_path)
    return tmp_path


def test_cpus_of_the_process() -> None:
    assert num_threads() == 8


@pytest.mark.parametrize(("cpus", "threads"), [(None, 1), (5, 5), (5000, 1024)])
def test_systems_without_affinity(cpus: int | None, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    assert num_threads() == threads


@pytest.mark.parametrize(
    ("content", "threads"),
    [
        ("200000 100000\n", 2),
        ("250000 100000\n", 3),
        ("1000 100000\n", 1),
        ("9900000 100000\n", 8),
        ("max 100000\n", 8),
        ("0 0\n", 8),
        ("", 8),
        ("x y\n", 8),
    ],
)
def test_quota_of_version_2(cgroup: Path, content: str, threads: int) -> None:
    (cgroup / "cpu.max").write_text(content)
    assert num_threads() == threads


@pytest.mark.parametrize(("quota", "threads"), [("150000\n", 2), ("50000\n", 1), ("-1\n", 8)])
def test_quota_of_version_1(cgroup: Path, quota: str, threads: int) -> None:
    (cgroup / "cpu").mkdir()
    (cgroup / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (cgroup / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert num_threads() == threads


@pytest.mark.parametrize(("text", "threads"), [("1", 1), ("016", 16), ("1024", 1024), ("", 2)])
def test_threads_as_asked(cgroup: Path, text: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (cgroup / "cpu.max").write_text("200000 100000")
    monkeypatch.setenv("ILMARI_NUM_THREADS", text)
    assert num_threads() == threads


@pytest.mark.parametrize("text", ["0", "-1", "1025", "²", "٣", "many", "1.5", " 2", "9" * 5000])
def test_threads_that_cannot_be(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILMARI_NUM_THREADS", text)
    with pytest.raises(
        ConfigError, match=r"ILMARI_NUM_THREADS is .*; set it to a positive number of threads, up to 1024"
    ):
        num_threads()


def test_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    for name in ("ILMARI_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_dir() == Path("/home/x/.cache/ilmari")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == Path("/xdg/ilmari")
    monkeypatch.setenv("ILMARI_CACHE", "/cache")
    assert cache_dir() == Path("/cache")
