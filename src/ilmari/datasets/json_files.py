"""JSON files of a data set, plain or gzip, one or a folder of them; streamed, bounded, and every mistake a sentence."""

import gzip
import itertools
import json
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from ilmari.errors import DataError

MAX_LINE_BYTES = 16 << 20
MAX_LINES_BYTES = 4 << 30  # a file of C4 has 0.8 GB when unpacked
MAX_DOCUMENT_BYTES = 128 << 20  # Alpaca's one document has 44 MB

_SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Record:
    """One JSON object: `where` names its place in a sentence, `read_bytes` is how much of the file was read for it."""

    where: str
    fields: Mapping[str, object]
    read_bytes: int

    def text(self, field: str) -> str:
        """The string in `field`.

        Raises:
            DataError: there is no such field, or no string in it, or one that is not valid Unicode.
        """
        if field not in self.fields:
            names = ", ".join(self.fields) or "none"
            shown = names if len(names) <= 100 else f"{names[:100]}…"
            raise DataError(f"{self.where} has the keys {shown}; expected a key {field}.")
        value = self.fields[field]
        if not isinstance(value, str):
            raise DataError(f"{self.where}: {field} is {_kind(value)}; expected a string.")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{self.where}: {field} has half a character at {error.start}; correct its \\u.") from error
        return value


def json_files(path: Path, subfolder: str = "") -> dict[Path, int]:
    """The file at `path`, or the JSON files of a folder (or of its `subfolder`), by name; for training, if some are.

    Each with its size in bytes.

    Raises:
        DataError: there are none, or only Parquet.
    """
    try:
        if not path.is_dir():
            if path.suffix == ".parquet":
                raise _parquet(path)
            return {path: path.stat().st_size}
        for folder in (path, path / subfolder):
            present = sorted(folder.iterdir()) if folder.is_dir() else []
            files = [file for file in present if file.name.endswith(_SUFFIXES)]
            if files:
                files = [file for file in files if "train" in file.name] or files
                return {file: file.stat().st_size for file in files}
            if any(file.suffix == ".parquet" for file in present):
                raise _parquet(folder)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {error.strerror or error}.") from error
    raise DataError(f"{path} has no JSON files; expected files that end in {', '.join(_SUFFIXES)}.")


def records(path: Path) -> Iterator[Record]:
    """The objects of a file with one a line, streamed; blank lines are skipped.

    Raises:
        DataError: the file cannot be read, is damaged or too large, or a line is not a JSON object in UTF-8.
    """
    total = 0
    with _opened(path) as (raw, file):
        for number in itertools.count(1):
            line = file.readline(MAX_LINE_BYTES + 1)
            total += len(line)
            if not line:
                return
            if len(line) > MAX_LINE_BYTES:
                raise DataError(f"{path}, line {number} has more than {MAX_LINE_BYTES:,} bytes; expected JSON lines.")
            if total > MAX_LINES_BYTES:
                raise DataError(f"{path} unpacks to more than {MAX_LINES_BYTES:,} bytes; give a smaller file.")
            if not line.isspace():
                yield _record(_parse(line, f"{path}, line {number}"), f"{path}, line {number}", raw.tell())


def listed_records(path: Path) -> list[Record]:
    """The objects of a file that is one list of them, or has one a line.

    Raises:
        DataError: as `records`.
    """
    with _opened(path) as (_, file):
        data = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise DataError(f"{path} has more than {MAX_DOCUMENT_BYTES:,} bytes when unpacked; give a smaller file.")
    if not data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        return list(records(path))
    items = cast("list[object]", _parse(data, str(path)))
    return [_record(item, f"{path}, item {number}", len(data)) for number, item in enumerate(items, 1)]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The file and its unpacked content: the same unless it is gzip, whatever it is called."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path} is not a plain file; expected JSON.")
        with path.open("rb") as raw:
            start = raw.read(2)
            raw.seek(0)
            yield raw, cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if start == _GZIP else raw
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}); fetch it again.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _parse(data: bytes, where: str) -> object:
    try:
        return json.loads(data.decode("utf-8-sig").rstrip())
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    except RecursionError as error:
        raise DataError(f"{where} is nested too deeply for a data set.") from error
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{where} is not valid JSON ({error.msg}, at {place}); correct it there.") from error
    except ValueError as error:  # Python's limit to the digits of a number
        raise DataError(f"{where} has a number of too many digits; correct it there.") from error


def _record(value: object, where: str, read_bytes: int) -> Record:
    if not isinstance(value, dict):
        raise DataError(f"{where} is {_kind(value)}; expected a JSON object.")
    return Record(where, value, read_bytes)


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


def _parquet(path: Path) -> DataError:
    return DataError(f"{path} holds Parquet, which is not read here; give the data set as .json.gz or .jsonl.")
