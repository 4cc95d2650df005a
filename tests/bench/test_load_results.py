"""Results on disk, their tables and pictures, and two of them side by side."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from ilmari.bench.serve.compare import ratios
from ilmari.bench.serve.figures import figures
from ilmari.bench.serve.plots import png_of
from ilmari.bench.serve.reply import Reply
from ilmari.bench.serve.results import KIND, Results, csv_of, read_result
from ilmari.errors import DataError, OutputError

ABOUT = {"date": "2000-01-01", "cpu": "a CPU"}
SETTINGS = {"model": "m", "seed": 0, "percentiles": [99.0], "request_rates": []}


def point(clients: int, seconds: float = 1.0, **more: Any) -> dict[str, Any]:
    place = {"input_len": 8, "output_len": 4, "max_concurrency": clients, "request_rate": None, "num_prompts": 5}
    replies = [Reply(0.0, [(seconds, 1), (2 * seconds, 1)], 8, 2), Reply(0.0, error="lost, as it were")]
    return place | figures(replies, 2 * seconds, (99.0,), {}) | {"host": {"cpu_percent": 50.0}} | more


SKIPPED = {
    "input_len": 9,
    "output_len": 4,
    "max_concurrency": 1,
    "request_rate": None,
    "num_prompts": 5,
    "skipped": "no",
}


def test_points_are_there_as_soon_as_they_are_measured(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    results = Results(folder, ABOUT, SETTINGS)
    for number in (1, 4):
        results.add(point(number))
        stored = json.loads((folder / "result.json").read_text())
        assert stored == results.result
        assert [each["max_concurrency"] for each in stored["points"]] == [1, 4][: len(stored["points"])]
    assert [path.name for path in folder.iterdir()] == ["result.json"]
    again = Results(folder, ABOUT | {"date": "later"}, SETTINGS)
    assert again.points == results.points
    again.add(SKIPPED)
    assert read_result(folder) == read_result(folder / "result.json") == again.result


def test_a_write_that_was_cut_off_loses_nothing(tmp_path: Path) -> None:
    Results(tmp_path, ABOUT, SETTINGS).add(point(1))
    (tmp_path / "result.json.partial").write_text('{"kind": ')
    assert len(Results(tmp_path, ABOUT, SETTINGS).points) == 1


def test_other_settings_need_another_folder(tmp_path: Path) -> None:
    Results(tmp_path, ABOUT, SETTINGS).add(point(1))
    before = (tmp_path / "result.json").read_bytes()
    with pytest.raises(OutputError, match="holds a result with seed 0, not 1; name another --result-dir"):
        Results(tmp_path, ABOUT, SETTINGS | {"seed": 1})
    assert (tmp_path / "result.json").read_bytes() == before


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        Results(tmp_path / "file" / "folder", ABOUT, SETTINGS)
    results = Results(tmp_path / "new", ABOUT, SETTINGS)
    (tmp_path / "new").rmdir()
    with pytest.raises(OutputError, match=r"result\.json cannot be written"):
        results.add(point(1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        f'{{"kind": "{KIND}"}}',
        f'{{"kind": "{KIND}", "settings": {{}}, "points": [1]}}',
        "[" * 9999,
    ],
)
def test_files_that_are_no_result(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(DataError, match="is no result of `ilmari bench serve`"):
        read_result(tmp_path)
    with pytest.raises(DataError, match="is no result"):
        Results(tmp_path, ABOUT, SETTINGS)
    with pytest.raises(DataError, match="cannot be read"):
        read_result(tmp_path / "absent.json")


def test_csv() -> None:
    rows = [*csv.DictReader(csv_of([point(1), SKIPPED]).splitlines())]
    assert [row["max_concurrency"] for row in rows] == ["1", "1"]
    assert float(rows[0]["mean_ttft_ms"]) == 1000
    assert rows[0]["host.cpu_percent"] == "50.0"
    assert rows[0]["errors"] == "1 x lost, as it were"
    assert (rows[0]["skipped"], rows[1]["skipped"], rows[1]["mean_ttft_ms"]) == ("", "no", "")


def test_ratios() -> None:
    first = {"points": [SKIPPED, point(1), point(4)]}
    second = {"points": [point(4, 2.0), point(8), SKIPPED]}
    (row,) = ratios(first, second)
    assert (row["input_len"], row["max_concurrency"]) == (8, 4)
    assert (row["mean_ttft_ms"], row["p99_e2el_ms"], row["output_throughput"]) == pytest.approx((2.0, 2.0, 0.5))
    assert not {"errors", "host", "num_prompts"} & row.keys()
    with pytest.raises(DataError, match="no point in common"):
        ratios(first, {"points": [SKIPPED, point(16)]})


def test_picture() -> None:
    pytest.importorskip("matplotlib")
    result = {**ABOUT, "settings": SETTINGS, "points": [point(1), point(4, 2.0), point(1, input_len=16), SKIPPED]}
    picture = png_of(result)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000
    rates = SETTINGS | {"request_rates": [0.5]}
    assert png_of(result | {"settings": rates, "points": [point(1, max_concurrency=None, request_rate=0.5)]})
