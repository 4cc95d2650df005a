"""An artifact on disk, checked and ready to run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from numpy.typing import NDArray

from ilmari.artifact import params
from ilmari.artifact.manifest import FILE_NAME, Manifest, manifest_bytes, read_manifest
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
    def load(cls, folder: Path) -> Artifact:
        """Open an artifact to run it: this CPU can, and no file is missing, truncated or altered.

        Raises:
            ArtifactError, TargetError: with the reason.
        """
        artifact = cls.open(folder)
        check_host(artifact.manifest.target, str(folder))
        artifact._check_sizes()
        # Reading everything once also brings the weights into the page cache.
        artifact._check_digests("xxh3", xxhash.xxh3_128)
        return artifact

    def verify(self, progress: Progress) -> None:
        """Check the SHA-256 of every file, and every tensor's shape and offset; `progress` counts bytes.

        Raises:
            ArtifactError: naming the first file that is not as it was written.
        """
        self._check_sizes()
        self._check_digests("sha256", hashlib.sha256, progress)
        params.check_header(self.folder / params.FILE_NAME, self.manifest.plan)

    @property
    def files(self) -> dict[str, int]:
        """Size in bytes of every file by its path in the folder, the manifest included."""
        manifest_size = len(manifest_bytes(self.manifest))
        return {record.path: record.size for record in self.manifest.files} | {FILE_NAME: manifest_size}

    def params(self) -> Mapping[str, NDArray[Any]]:
        """The packed parameters by the plan's names, memory-mapped."""
        return params.map_params(self.folder / params.FILE_NAME, self.manifest.plan)

    def _check_sizes(self) -> None:
        for record in self.manifest.files:
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

    def _check_digests(self, field: str, algorithm: Callable[[], Any], progress: Progress | None = None) -> None:
        total = sum(record.size for record in self.manifest.files)
        buffer = memoryview(bytearray(_CHUNK))
        done = 0
        for record in self.manifest.files:
            digest = algorithm()
            path = self.folder / record.path
            try:
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
