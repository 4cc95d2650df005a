"""Results on disk: written after each point, so that a grid that was interrupted goes on where it ended."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ilmari.errors import DataError, OutputError

KIND = "ilmari bench serve"
JSON, CSV, PNG = "result.json", "result.csv", "result.png"


def read_result(path: Path) -> dict[str, Any]:
    """The result in a file, or in a folder as `--result-dir` names it.

    Raises:
        DataError: there is none.
    """
    file = path / JSON if path.is_dir() else path
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); name a result of `{KIND}`.") from error
    except (ValueError, RecursionError):
        result = None
    if (
        not isinstance(result, dict)
        or result.get("kind") != KIND
        or not isinstance(result.get("settings"), dict)
        or not isinstance(result.get("points"), list)
        or not all(isinstance(point, dict) for point in result["points"])
    ):
        raise DataError(f"{file} is no result of `{KIND}`; name its result.json, or the folder of it.")
    return result


class Results:
    """Points as they are measured; in a folder, if there is one."""

    def __init__(self, folder: Path | None, about: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """about: what else the result says of itself, such as the machine.

        Raises:
            OutputError: the folder cannot be written, or holds a result of other settings.
            DataError: what it holds is no result.
        """
        self._folder = folder
        self.result: dict[str, Any] = {"kind": KIND, **about, "settings": dict(settings), "points": []}
        if folder is None:
            return
        if (folder / JSON).exists():
            earlier = read_result(folder)
            _check_same(folder, earlier["settings"], self.result["settings"])
            self.result = earlier
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _refused(folder, error) from error

    @property
    def points(self) -> list[dict[str, Any]]:
        """In the order of the grid."""
        return list(self.result["points"])

    def add(self, point: dict[str, Any]) -> None:
        """Keep the next point.

        Raises:
            OutputError: it cannot be written.
        """
        self.result["points"].append(point)
        self.write(JSON, (json.dumps(self.result, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())

    def add_csv(self) -> None:
        """Write the points as a table too.

        Raises:
            OutputError: it cannot be written.
        """
        self.write(CSV, csv_of(self.points).encode())

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the folder, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        if self._folder is None:
            return
        partial = self._folder / f"{name}.partial"
        try:
            partial.write_bytes(data)
            partial.replace(self._folder / name)
        except OSError as error:
            raise _refused(self._folder / name, error) from error


def csv_of(points: list[dict[str, Any]]) -> str:
    """A row for each point, a column for each figure that any of them has; what is nested has a dot in its name."""
    rows = [_flat(point) for point in points]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(point: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in point.items():
        if name == "errors":
            flat[name] = "; ".join(f"{count} x {text}" for text, count in value.items())
        elif isinstance(value, dict):
            flat |= {f"{name}.{part}": each for part, each in value.items()}
        else:
            flat[name] = value
    return flat


def _check_same(folder: Path, earlier: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        if earlier.get(name) != value:
            raise OutputError(
                f"{folder} holds a result with {name} {json.dumps(earlier.get(name))}, not {json.dumps(value)}; name "
                "another --result-dir, or give the same settings to go on with it."
            )


def _refused(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path} cannot be written ({error.strerror or error}); free space, or name another --result-dir."
    )
