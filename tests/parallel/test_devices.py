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
        ("0; 1", ["0-0", "1-1"]),
    ],
)
def test_parse(text: str, want: list[str]) -> None:
    assert parse_devices(text, 2) == want


@pytest.mark.parametrize("text", ["", "a", "[0,1", "-1,0", "0-;1", "[true,1]", "0,1,2", "0.5,1", "9" * 5000])
def test_nonsense(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_devices(text, 2)
    assert_one_sentence(caught.value)


def cpus_of_all(text: str) -> list[list[int]]:
    """What each rank gets; as many ranks as devices, all on this machine."""
    devices = parse_devices(text, text.count(";") + 1 if ";" in text else text.count(",") + 1)
    return [cpus_for(devices, rank) for rank in range(len(devices))]


QUARTERS = [[0, 2], [4, 6], [1, 3], [5, 7]]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("1,0", [[1, 3, 5, 7], [0, 2, 4, 6]]),
        ("1", [[1, 3, 5, 7]]),
        ("0,0,1,1", QUARTERS),
        ("1,0,1,0", [[1, 3], [0, 2], [5, 7], [4, 6]]),
        ("[0,1,2,3]", QUARTERS),
        ("3,2,1,0", QUARTERS[::-1]),
        ("0-1,6;0-1,6", [[0], [1, 6]]),
        ("1;0", [[1], [0]]),
    ],
)
@pytest.mark.usefixtures("machine")
def test_two_nodes(text: str, want: list[list[int]]) -> None:
    assert cpus_of_all(text) == want
    assert [even_part(list(range(8)), rank, 4) for rank in range(4)] == QUARTERS


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("0", [list(range(8))]),
        ("1,0", [[4, 5, 6, 7], [0, 1, 2, 3]]),
        ("0,0,1,1", [[0, 1], [2, 3], [4, 5], [6, 7]]),
        ("[0,1,2,3]", [[0, 1], [2, 3], [4, 5], [6, 7]]),
    ],
)
def test_one_node(machine: Path, text: str, want: list[list[int]]) -> None:
    one_node(machine)
    assert cpus_of_all(text) == want


@pytest.mark.parametrize("text", ["0,2", "2,3", "2", "0-1;8-9"])
@pytest.mark.usefixtures("machine")
def test_devices_that_there_are_not(text: str) -> None:
    with pytest.raises(ConfigError, match="choose among these") as caught:
        cpus_of_all(text)
    assert_one_sentence(caught.value)


def test_parts_are_whole_cores(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_node(machine)
    monkeypatch.setattr(devices, "core_of", lambda cpu: cpu % 4)
    parts = [even_part(list(range(8)), rank, 3) for rank in range(3)]
    assert parts == [[0, 4], [1, 5], [2, 3, 6, 7]]
    assert [even_part([0, 1], rank, 3) for rank in range(3)] == [[0], [1], [0]]
