"""A job's rows on disk: an interrupted run goes on, and anything else starts afresh."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ilmari.errors import OutputError
from ilmari.evaluation.journal import Journal, Row

JOB = {"verb": "square", "ids": "ab"}
UNITS = [3, 1, 4, 1, 5]


def square(worked: list[int], stop_at: int = -1) -> Callable[[int], Row]:
    """Work on a unit that is noted in `worked`, and is interrupted when it comes to the unit numbered `stop_at`."""

    def work(unit: int) -> Row:
        if len(worked) == stop_at:
            raise KeyboardInterrupt
        worked.append(unit)
        return {"square": unit * unit / 3}

    return work


def run(output: Path | None, job: dict[str, str] = JOB) -> tuple[list[Row], list[int]]:
    """The rows of a run to its end, and the units that it had to work on."""
    worked: list[int] = []
    with Journal(output, job) as journal:
        return list(journal.run("squares", UNITS, square(worked), lambda *_: None)), worked


def interrupt(output: Path, after: int) -> None:
    with Journal(output, JOB) as journal, pytest.raises(KeyboardInterrupt):
        journal.run("squares", UNITS, square([], after), lambda *_: None)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "result.json"


@pytest.mark.parametrize("after", [0, 1, 4])
def test_interrupted_run_goes_on(output: Path, after: int) -> None:
    interrupt(output, after)
    rows, worked = run(output)
    assert worked == UNITS[after:]
    assert rows == run(None)[0]


def test_nothing_is_left_to_do_after_the_last_unit(output: Path) -> None:
    rows, _ = run(output)
    assert run(output) == (rows, [])


def test_line_that_was_not_written_whole(output: Path) -> None:
    interrupt(output, 3)
    partial = output.with_name("result.json.partial")
    partial.write_bytes(partial.read_bytes()[:-4])
    rows, worked = run(output)
    assert worked == UNITS[2:]
    assert run(output) == (rows, [])


@pytest.mark.parametrize("content", [b"", b"\n", b"{}\n", b"[1]\n", b"\xff\n\x00", b'{"job": 1}\n{"square": 7}\n'])
def test_file_that_is_no_journal(output: Path, content: bytes) -> None:
    output.with_name("result.json.partial").write_bytes(content)
    assert run(output)[1] == UNITS


def test_other_job(output: Path) -> None:
    interrupt(output, 3)
    assert run(output, {**JOB, "ids": "cd"})[1] == UNITS
    assert run(output)[1] == UNITS


def test_result(output: Path) -> None:
    run(output)
    with Journal(output, JOB) as journal:
        assert journal.finished == len(UNITS)
        journal.finish({"square": 1.5, "what": "平方"})
    assert json.loads(output.read_text(encoding="utf-8")) == {"square": 1.5, "what": "平方"}
    assert [path.name for path in output.parent.iterdir()] == ["result.json"]


def test_without_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Journal(None, JOB) as journal:
        journal.run("squares", UNITS, square([]), lambda *_: None)
        journal.finish({})
    assert list(tmp_path.iterdir()) == []


def test_progress_begins_where_the_run_does(output: Path) -> None:
    interrupt(output, 3)
    seen = []
    with Journal(output, JOB) as journal:
        journal.run("squares", UNITS, square([]), lambda *report: seen.append(report))
    assert seen == [("squares", 3, 5), ("squares", 4, 5), ("squares", 5, 5)]


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder; name a file"):
        Journal(tmp_path, JOB)
    with pytest.raises(OutputError, match="cannot be written"):
        Journal(tmp_path / "absent" / "result.json", JOB)
