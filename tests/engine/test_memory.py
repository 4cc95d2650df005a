"""How much memory the KV cache may count on, against files as Linux writes them."""

from pathlib import Path

import pytest

from ilmari.engine import memory


@pytest.mark.parametrize(
    ("limit", "used", "expected"),
    [(None, None, 3 << 20), ("max", "5", 3 << 20), ("2097152", "1048576", 1 << 20), ("100", "200", 0)],
)
def test_the_smaller_of_machine_and_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, used: str | None, expected: int
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 8192 kB\nMemFree: 1024 kB\nMemAvailable:   3072 kB\nHugePages: 0\n")
    if limit is not None and used is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{used}\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.available_bytes() == expected
