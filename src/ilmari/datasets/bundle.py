"""Small text files that lie in a folder or in a zip, read alike and with suspicion."""

import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ilmari.errors import DataError

MAX_ARCHIVE_BYTES = 16 << 20  # C-Eval's zip has 1.5 MB
MAX_FILES = 4096
MAX_FILE_BYTES = 8 << 20
MAX_TOTAL_BYTES = 64 << 20

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1


@dataclass(frozen=True)
class Bundle:
    """The CSV files of a folder, or of a zip with one, by their path in it."""

    path: Path
    members: Mapping[str, Path | zipfile.ZipInfo]

    @classmethod
    def open(cls, path: Path) -> "Bundle":
        """List a zip, a folder with subfolders of CSV files, or a folder with one zip and no such subfolders.

        Raises:
            DataError: nothing is there, it is not a zip, or its files are too many, too large or encrypted.
        """
        try:
            if path.is_dir():
                if files := {file.relative_to(path).as_posix(): file for file in sorted(path.glob("*/*.csv"))}:
                    _check_count(path, len(files))
                    return cls(path, files)
                archives = sorted(path.glob("*.zip"))
                if len(archives) != 1:
                    raise DataError(
                        f"{path} has no folders of CSV files and {len(archives)} zip files; expected folders such as "
                        "dev and val with a CSV file for each subject, or one zip with them."
                    )
                path = archives[0]
            with _archive(path) as archive:
                return cls(path, _checked(path, archive))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error

    def read(self, name: str) -> str:
        """The text of one file, without a byte order mark; errors name the file.

        Raises:
            DataError: the file cannot be read or is damaged, too large, or not UTF-8.
        """
        member = self.members[name]
        where = self.where(name)
        try:
            if isinstance(member, Path):
                if not stat.S_ISREG(member.stat().st_mode):
                    raise DataError(f"{where} is not a plain file; expected CSV text.")
                with member.open("rb") as file:
                    data = file.read(MAX_FILE_BYTES + 1)
            else:
                with _archive(self.path) as archive, archive.open(member) as packed:
                    data = packed.read(MAX_FILE_BYTES + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise DataError(f"{where} is damaged ({error}); fetch the zip again.") from error
        except OSError as error:
            raise DataError(f"{where} cannot be read: {error.strerror or error}.") from error
        if len(data) > MAX_FILE_BYTES:
            raise _too_large(where, f"more than {MAX_FILE_BYTES:,} bytes", f"{MAX_FILE_BYTES:,}")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{where} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error

    def where(self, name: str) -> str:
        """How a sentence names one of the files."""
        return str(self.path / name) if isinstance(self.members[name], Path) else f"{self.path}: {name}"


def _archive(path: Path) -> zipfile.ZipFile:
    if not path.exists():
        raise DataError(f"{path} does not exist, and nothing is downloaded; give a zip or a folder on this machine.")
    if not path.is_file():
        raise DataError(f"{path} is not a plain file; expected a zip or a folder of CSV files.")
    if (size := path.stat().st_size) > MAX_ARCHIVE_BYTES:
        raise _too_large(path, f"{size:,} bytes", f"{MAX_ARCHIVE_BYTES:,}")
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise DataError(f"{path} is not a zip; expected a zip or a folder of CSV files.") from error


def _checked(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members = {member.filename: member for member in archive.infolist() if _is_csv(member.filename)}
    _check_count(path, len(members))
    for name, member in members.items():
        if member.flag_bits & _ENCRYPTED:
            raise DataError(f"{path}: {name} is encrypted; unpack the zip with its password and give the folder.")
        if member.compress_type not in _METHODS:
            raise DataError(f"{path}: {name} is packed by a rare method; unpack the zip and give the folder.")
        if member.file_size > MAX_FILE_BYTES:
            raise _too_large(f"{path}: {name}", f"{member.file_size:,} bytes", f"{MAX_FILE_BYTES:,}")
    if (total := sum(member.file_size for member in members.values())) > MAX_TOTAL_BYTES:
        raise _too_large(path, f"{total:,} bytes when unpacked", f"{MAX_TOTAL_BYTES:,}")
    return members


def _is_csv(name: str) -> bool:
    return name.endswith(".csv") and not name.startswith("__MACOSX/")


def _check_count(path: Path, count: int) -> None:
    if count > MAX_FILES:
        raise DataError(
            f"{path} has {count:,} CSV files, and an exam has at most {MAX_FILES:,}; give the published files."
        )


def _too_large(what: str | Path, found: str, limit: str) -> DataError:
    return DataError(f"{what} has {found}, and an exam's files have at most {limit}; give the published files.")
