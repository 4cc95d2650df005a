"""An artifact on disk, checked and ready to run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from numpy.typing import NDArray

from ilmari.artifact import params
from ilmari.artifact.manifest import FILE_NAME, FileRecord, Manifest, manifest_bytes, read_manifest
from ilmari.artifact.page_cache import read_into_page_cache
from ilmari.errors import ArtifactError
from ilmari.kernels.target import check_host
from ilmari.report import Progress

KERNELS = "kernels.o"
TOKENIZER = "tokenizer"
_CHUNK = 1 << 20  # small enough to stay in cache between the read and the digest


@dataclass(frozen=True)
class Artifact:
    """A compiled model: its folder and its manifest."""

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path) -> Artifact:
        """Read the manifest only; enough to say what the artifact is.

        Raises:
            ArtifactError: no artifact, or one that this version does not read.
        """
        return cls(folder, read_manifest(folder))

    @classmethod
    def load(cls, folder: Path, rank: int | None = None) -> Artifact:
        """Open an artifact to run it: this CPU can, and no file is missing, truncated or altered.

        rank: one of `tp`, whose parameters it is to run; those of the others need not be there.

        Raises:
            ArtifactError, TargetError: with the reason.
        """
        artifact = cls.open(folder)
        check_host(artifact.manifest.target, str(folder))
        records = artifact._records(rank)
        artifact._check_sizes(records)
        artifact._check_digests(records, "xxh3", xxhash.xxh3_128)
        return artifact

    def verify(self, progress: Progress) -> None:
        """Check the SHA-256 of every file, and every tensor's shape and offset; `progress` counts bytes.

        Raises:
            ArtifactError: naming the first file that is not as it was written.
        """
        self._check_sizes(self.manifest.files)
        self._check_digests(self.manifest.files, "sha256", hashlib.sha256, progress)
        for rank in range(self.manifest.tp):
            params.check_header(self.folder / params.file_name(rank), self.manifest.plan)

    @property
    def files(self) -> dict[str, int]:
        """Size in bytes of every file by its path in the folder, the manifest included."""
        manifest_size = len(manifest_bytes(self.manifest))
        return {record.path: record.size for record in self.manifest.files} | {FILE_NAME: manifest_size}

    def params(self, rank: int = 0) -> Mapping[str, NDArray[Any]]:
        """A rank's packed parameters by the plan's names, memory-mapped."""
        return params.map_params(self.folder / params.file_name(rank), self.manifest.plan)

    def _records(self, rank: int | None) -> tuple[FileRecord, ...]:
        """All files, or only those that a rank needs."""
        if rank is None:
            return self.manifest.files
        others = {params.file_name(other) for other in range(self.manifest.tp) if other != rank}
        return tuple(record for record in self.manifest.files if record.path not in others)

    def _check_sizes(self, records: Iterable[FileRecord]) -> None:
        for record in records:
            path = self.folder / record.path
            try:
                size = path.stat().st_size
            except OSError as error:
                raise ArtifactError(f"{path} is missing ({error.strerror}); compile the model again.") from error
            if size != record.size:
                word = "truncated" if size < record.size else "too long"
                raise ArtifactError(
                    f"{path} is {word}: it has {size:,} bytes and was written with {record.size:,}; "
                    "compile the model again."
                )

    def _check_digests(
        self,
        records: Many[FileRecord],
        field: str,
        algorithm: Callable[[], Any],
        progress: Progress | None = None,
    ) -> None:
        total = sum(record.size for record in records)
        buffer = memoryview(bytearray(_CHUNK))
        done = 0
        for record in records:
            digest = algorithm()
            path = self.folder / record.path
            try:
                read_into_page_cache(path)
                with path.open("rb", buffering=0) as file:
                    while size := file.readinto(buffer):
                        digest.update(buffer[:size])
                        done += size
                        if progress:
                            progress(done, total)
            except OSError as error:
                raise ArtifactError(
                    f"{path} cannot be read ({error.strerror}); give it back its permissions, or compile the model "
                    "again."
                ) from error
            if digest.hexdigest() != getattr(record, field):
                raise ArtifactError(
                    f"{path} was altered since it was written: its {field} digest differs; compile the model again."
                )
