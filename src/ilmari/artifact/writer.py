"""Writing an artifact so that it either exists whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import xxhash

from ilmari.artifact.manifest import FILE_NAME, FileRecord, Manifest, manifest_bytes
from ilmari.errors import OutputError


class FileWriter:
    """One file of the artifact under way; digests are computed as bytes pass."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._xxh3 = xxhash.xxh3_128()
        self._size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._file.write(data)
        self._sha256.update(data)
        self._xxh3.update(data)
        self._size += memoryview(data).nbytes

    def record(self, path: str) -> FileRecord:
        """What the manifest says about the file."""
        return FileRecord(path, self._size, self._sha256.hexdigest(), self._xxh3.hexdigest())


class ArtifactWriter:
    """A context: files go to a hidden sibling of `folder`, which takes its place in `finish`.

    Leaving the context without `finish`, by an error or an interrupt, removes the sibling. A process that is killed
    leaves it, and the next writer for the same folder removes it. An older artifact stays until the new one is whole.

    Raises:
        OutputError: anything that the system refuses (no space, no permission), or a folder that is no artifact.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._scratch = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        self._older = folder.with_name(f".{folder.name}.{os.getpid()}.older")
        self._records: list[FileRecord] = []

    def __enter__(self) -> ArtifactWriter:
        with _system_errors(self.folder):
            if self.folder.exists() and not (self.folder / FILE_NAME).is_file():
                raise OutputError(
                    f"{self.folder} exists and is not a compiled model; "
                    "move it away, or choose another `name` or `workspace.path`."
                )
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._clear_left_overs()
            self._scratch.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[FileWriter]:
        """A new file of the artifact, `path` relative to its folder."""
        with _system_errors(self.folder):
            target = self._scratch / path
            target.parent.mkdir(exist_ok=True)
            with target.open("wb") as file:
                writer = FileWriter(file)
                yield writer
                file.flush()
                os.fsync(file.fileno())
            self._records.append(writer.record(path))

    @property
    def records(self) -> tuple[FileRecord, ...]:
        """The files written so far."""
        return tuple(self._records)

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest and put the artifact in its place."""
        with self.open(FILE_NAME) as file:
            file.write(manifest_bytes(manifest))
        with _system_errors(self.folder):
            if self.folder.exists():
                # A folder cannot replace another in one step: between these two renames the older artifact lies
                # beside its place, whence the next writer would bring it back.
                self.folder.rename(self._older)
            self._scratch.rename(self.folder)
            shutil.rmtree(self._older, ignore_errors=True)

    def _clear_left_overs(self) -> None:
        """Remove what killed writers left, and bring back an artifact that one of them had put aside."""
        for path in self.folder.parent.glob(f".{glob.escape(self.folder.name)}.*.*"):
            process, kind = path.name.rsplit(".", 2)[1:]
            if kind not in ("partial", "older") or not process.isdigit() or _is_running(int(process)):
                continue
            if kind == "older" and not self.folder.exists():
                path.rename(self.folder)
            else:
                shutil.rmtree(path)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


@contextlib.contextmanager
def _system_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror or error}); free space, or choose another `workspace.path`."
        ) from error
