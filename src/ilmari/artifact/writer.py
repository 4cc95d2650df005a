"""Writing an artifact so that it either exists whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import xxhash

from ilmari.artifact import params, quantization
from ilmari.artifact.artifact import KERNELS, TOKENIZER
from ilmari.artifact.lock import lock, system_errors
from ilmari.artifact.manifest import FILE_NAME, FileRecord, Manifest, manifest_bytes
from ilmari.artifact.page_cache import HUGE_PAGE
from ilmari.errors import OutputError

ENTRIES = frozenset({FILE_NAME, KERNELS, TOKENIZER, quantization.FILE_NAME, params.FOLDER})
"""All that lies directly in an artifact's folder."""


_OLDER, _CLAIM = "older", "claim"
_RANDOM = "[a-z0-9_]" * 8  # as `tempfile` makes it


class FileWriter:
    """One file of the artifact under way; digests are computed as bytes pass.

    It is written in pieces of a huge page, because Linux keeps each piece in pages no larger than itself: see
    `page_cache`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._piece = bytearray()
        self._sha256 = hashlib.sha256()
        self._xxh3 = xxhash.xxh3_128()
        self._size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._sha256.update(data)
        self._xxh3.update(data)
        rest = memoryview(data).cast("B")
        self._size += len(rest)
        while rest:
            part = rest[: HUGE_PAGE - len(self._piece)]
            rest = rest[len(part) :]
            self._piece += part
            if len(self._piece) == HUGE_PAGE:
                self.flush()

    def flush(self) -> None:
        """Write what is no whole piece, too."""
        self._file.write(self._piece)
        self._piece.clear()

    def record(self, path: str) -> FileRecord:
        """What the manifest says about the file."""
        return FileRecord(path, self._size, self._sha256.hexdigest(), self._xxh3.hexdigest())


class ArtifactWriter:
    """A context: files go to a hidden sibling of `folder`, from which they take its place in `finish`.

    Leaving the context, by an error or an interrupt too, removes the sibling. A process that is killed leaves it, and
    the next writer for the same folder removes it. An older artifact stays until the new one is whole.

    Raises:
        OutputError: anything that the system refuses (no space, no permission), or a folder that is no artifact.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._place = Path(os.path.realpath(folder))  # a link to an artifact stays, and what it leads to is replaced
        self._records: list[FileRecord] = []

    def __enter__(self) -> ArtifactWriter:
        with system_errors(self.folder):
            self._check_place()
            with system_errors(self.folder.parent):
                self._place.parent.mkdir(parents=True, exist_ok=True)
            self._clear_left_overs()
            self._scratch = Path(tempfile.mkdtemp(".partial", f".{self._place.name}.", self._place.parent))
            self._new, self._older = self._scratch / "new", self._scratch / _OLDER
            self._claim = _claim(self._scratch)
            self._new.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._claim.close()
        self._clear(self._scratch)

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[FileWriter]:
        """A new file of the artifact, `path` relative to its folder."""
        with system_errors(self.folder):
            target = self.path(path)
            target.parent.mkdir(exist_ok=True)
            with target.open("wb") as file:
                writer = FileWriter(file)
                yield writer
                writer.flush()
                file.flush()
                os.fsync(file.fileno())
            self._records.append(writer.record(path))

    def path(self, path: str) -> Path:
        """Where a file or folder of the artifact lies until `finish`."""
        return self._new / path

    @property
    def records(self) -> tuple[FileRecord, ...]:
        """The files written so far."""
        return tuple(self._records)

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest and put the artifact in its place."""
        with self.open(FILE_NAME) as file:
            file.write(manifest_bytes(manifest))
        with system_errors(self.folder):
            while not self._take_place():
                pass

    def _take_place(self) -> bool:
        """Put the new artifact in its place; False if another writer was quicker, whose artifact is then the older one.

        A folder cannot replace another in one step: between the two renames the older artifact lies in the scratch
        folder, whence leaving the context, or else the next writer, would bring it back.
        """
        self._check_place()
        shutil.rmtree(self._older, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            self._place.rename(self._older)
        try:
            self._new.rename(self._place)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        return True

    def _check_place(self) -> None:
        """Only an artifact is ever replaced, and none that holds something more."""
        try:
            names = _names(self._place)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            if not self._place.exists():  # a folder above it is a file, as making that folder will tell
                return
            names = set()
        if FILE_NAME not in names:
            reason = f"is not a compiled model (it has no {FILE_NAME})"
        elif foreign := sorted(names - ENTRIES):
            reason = f"holds {foreign[0]!r}, which is no part of a compiled model"
        else:
            return
        raise OutputError(
            f"{self.folder} exists and {reason}; move it away, or choose another `name` or `workspace.path`."
        )

    def _clear_left_overs(self) -> None:
        """Clear what killed writers left: a scratch folder with a claim that nobody holds."""
        for scratch in self._place.parent.glob(f".{glob.escape(self._place.name)}.{_RANDOM}.partial"):
            with contextlib.suppress(OSError), (scratch / _CLAIM).open("r+b") as claim:
                if lock(claim):
                    self._clear(scratch)

    def _clear(self, scratch: Path) -> None:
        """Remove a scratch folder; an artifact put aside in it comes back, unless there is another in its place."""
        older = scratch / _OLDER
        if older.exists() and not self._place.exists():
            with contextlib.suppress(OSError):
                older.rename(self._place)
        if not older.exists() or self._place.exists():
            shutil.rmtree(scratch, ignore_errors=True)


def _names(place: Path) -> set[str]:
    """What lies in a folder, listed while it is in its place: one that another writer puts aside is emptied next."""
    while True:
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(folder) as entries:
                names = {entry.name for entry in entries}
            if os.path.samestat(os.fstat(folder), place.stat()):
                return names
        finally:
            os.close(folder)


def _claim(scratch: Path) -> BinaryIO:
    """A file locked until it is closed or its process ends, which other containers and hosts see too.

    It gets its name once it is locked, so that no other writer sees it unlocked; without locks it never does.
    """
    nascent = scratch / "nascent"
    file = nascent.open("wb")
    if lock(file):
        nascent.rename(scratch / _CLAIM)
    return file
