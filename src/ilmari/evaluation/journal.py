"""Results of a long job as they come, on disk, so that an interrupted one goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeVar

from ilmari.errors import OutputError
from ilmari.report import Report

Unit = TypeVar("Unit")
Row = dict[str, Any]


class Journal:
    """A context in which units of work are finished, each with a row of results.

    Beside the file for the result lies FILE.partial: a line of JSON for the job, then one for each row. A later run of
    the same job takes these over; another job starts afresh.
    """

    def __init__(self, output: Path | None, job: Mapping[str, Any]) -> None:
        """
        output: the file for the result; without one nothing is kept. job: all that decides the rows, as JSON values.

        Raises:
            OutputError: the file cannot be written there.
        """
        self._output = output
        self._rows: list[Row] = []
        self._file: BinaryIO | None = None
        if output is None:
            return
        if output.is_dir():
            raise OutputError(f"{output} is a folder; name a file for the result.")
        self._partial = output.with_name(f"{output.name}.partial")
        try:
            self._file = self._partial.open("a+b")
            self._take_over({"job": job})
        except OSError as error:
            raise self._refused(error) from error

    @property
    def finished(self) -> int:
        """Units that have their row, from an earlier run too."""
        return len(self._rows)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()

    def run(self, step: str, units: Sequence[Unit], work: Callable[[Unit], Row], report: Report) -> list[Row]:
        """A row of JSON values for each unit, in order; `work` makes those that are not there yet.

        Raises:
            OutputError: a row cannot be written.
        """
        while self.finished < len(units):
            report(step, self.finished, len(units))
            row = work(units[self.finished])
            self._append(row)
            self._rows.append(row)
        report(step, len(units), len(units))
        return self._rows

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result, and remove the rows.

        Raises:
            OutputError: it cannot be written; the rows stay.
        """
        if self._output is None:
            return
        text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
        try:
            self._output.write_text(f"{text}\n", encoding="utf-8")
            self._partial.unlink()
        except OSError as error:
            raise self._refused(error) from error

    def _take_over(self, job: Row) -> None:
        """Keep the rows of an earlier run of this job, up to the first that was not written whole."""
        assert self._file
        self._file.seek(0)
        kept = 0
        for number, line in enumerate(self._file):
            row = _parse(line)
            if row is None or (number == 0 and row != job):
                break
            kept += len(line)
            self._rows += [row] if number else []
        self._file.truncate(kept)
        if not kept:
            self._append(job)

    def _append(self, row: Row) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self._output} cannot be written ({error.strerror or error}); free space, or name a file elsewhere."
        )


def _parse(line: bytes) -> Row | None:
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
