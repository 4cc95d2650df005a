"""Which CPUs ranks get, on machines of one and of several NUMA nodes."""

from pathlib import Path

import pytest
from checkpoints import assert_one_sentence

from ilmari.errors import ConfigError
from ilmari.parallel import devices
from ilmari.parallel.devices import cpus_for, even_part, parse_devices


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight CPUs, each a core; two nodes, of which the first has the even ones."""
    for node, cpus in enumerate(["0,2,4,6", "1,3,5,7"]):
        (tmp_path / f"node{node}").mkdir()
        (tmp_path / f"node{node}" / "cpulist").write_text(f"{cpus}\n")
    monkeypatch.setattr(devices, "NODES", tmp_path)
    monkeypatch.setattr(devices, "usable_cpus", lambda: list(range(8)))
    monkeypatch.setattr(devices, "core_of", lambda cpu: cpu)
    return tmp_path


def one_node(machine: Path) -> None:
    (machine / "node1" / "cpulist").unlink()
    (machine / "node1").rmdir()
    (machine / "node0" / "cpulist").write_text("0-7\n")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("0,1", ["0", "1"]),
        (" [1, 0]", ["1", "0"]),
        ("0-3;4-7", ["0-3", "4-7"]),
        ("0,2;1,3", ["0,2", "1,3"]),
    ],
)
def test_parse(text: str, want: list[str]) -> None:
    assert parse_devices(text, 2) == want


@pytest.mark.parametrize("text", ["", "a", "[0,1", "-1,0", "0-;1", "[true,1]", "0,1,2", "0.5,1", "9" * 5000])
def test_nonsense(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_devices(text, 2)
    assert_one_sentence(caught.value)


def test_nodes(machine: Path) -> None:
    assert cpus_for("1", 2) == [1, 3, 5, 7]
    assert cpus_for("0-1,6", 2) == [0, 1, 6]
    assert [even_part(list(range(8)), rank, 4) for rank in range(4)] == [[0, 2], [4, 6], [1, 3], [5, 7]]
    for device in ("2", "8-9"):
        with pytest.raises(ConfigError) as caught:
            cpus_for(device, 2)
        assert_one_sentence(caught.value)
    one_node(machine)
    assert cpus_for("1", 2) == [4, 5, 6, 7]
    with pytest.raises(ConfigError, match="2 parts"):
        cpus_for("2", 2)


def test_parts_are_whole_cores(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_node(machine)
    monkeypatch.setattr(devices, "core_of", lambda cpu: cpu % 4)
    parts = [even_part(list(range(8)), rank, 3) for rank in range(3)]
    assert parts == [[0, 4], [1, 5], [2, 3, 6, 7]]
    assert [even_part([0, 1], rank, 3) for rank in range(3)] == [[0], [1], [0]]
