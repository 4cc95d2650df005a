"""What an artifact says about itself: `manifest.json`."""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError

from ilmari.artifact.quantization import Quantization
from ilmari.errors import ArtifactError
from ilmari.kernels.isa import ISAS, isa_named
from ilmari.kernels.plan import Plan
from ilmari.kernels.scheme import SCHEMES
from ilmari.kernels.target import Target
from ilmari.model.config import ModelConfig

SCHEMA_VERSION = 6
FILE_NAME = "manifest.json"
MAX_BYTES = 1 << 20


def _one_of(names: Collection[str]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in names:
            raise ValueError(name)
        return name

    return AfterValidator(check)


PathInside = Annotated[str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$")]
"""Plain names with slashes between them, which cannot lead out of a folder."""


@dataclass(frozen=True)
class FileRecord:
    """One file of the artifact; size in bytes, digests in hexadecimal.

    sha256 is what `verify` checks; xxh3, which is no protection against intent but reads at memory speed, is what every
    load checks.
    """

    path: PathInside
    size: NonNegativeInt
    sha256: str
    xxh3: str


@dataclass(frozen=True)
class Manifest:
    """Everything that decides whether and how an artifact can run; lengths are in tokens.

    quantization: how int8 weights came about; None where weights are floats. throughput: a server's steps are to be
    long, for the most tokens in all, rather than such that no running reply waits. tp: ranks that hold the model
    together.
    """

    schema_version: int
    ilmari_version: str
    name: str
    model: ModelConfig
    scheme: Annotated[str, _one_of(SCHEMES)]
    activation: str
    quantization: Quantization | None
    isa: Annotated[str, _one_of([isa.name for isa in ISAS])]
    target: Target
    max_prompt_len: PositiveInt
    max_seq_len: PositiveInt
    throughput: bool
    tp: PositiveInt
    files: tuple[FileRecord, ...]

    @property
    def plan(self) -> Plan:
        """The shapes of its kernels, and of its parameters on each rank."""
        return Plan(self.model, SCHEMES[self.scheme], isa_named(self.isa), self.tp)


_ADAPTER = TypeAdapter(Manifest)


def manifest_bytes(manifest: Manifest) -> bytes:
    """The file's content; its last field is the SHA-256 of all the others, so that an edited manifest is noticed."""
    fields = asdict(manifest)
    return (json.dumps({**fields, "digest": _digest(fields)}, indent=2, ensure_ascii=False) + "\n").encode()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the artifact in `folder`.

    Raises:
        ArtifactError: there is none, or it is from another version, altered or malformed.
    """
    path = folder / FILE_NAME
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactError(_absence(folder)) from error
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}).") from error
    try:
        fields = json.loads(data)
        version, digest = fields["schema_version"], fields.pop("digest")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged: it is not a whole manifest; compile the model again.") from error
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {version!r} and this ilmari reads version {SCHEMA_VERSION}; "
            "compile the model again, or install the version that made it."
        )
    if digest != _digest(fields):
        raise ArtifactError(f"{path} was altered since it was written: its digest differs; compile the model again.")
    try:
        return _ADAPTER.validate_json(data, strict=True)
    except ValidationError as error:
        mistake = error.errors()[0]
        field = ".".join(map(str, mistake["loc"]))
        found = "is missing" if mistake["type"] == "missing" else f"cannot be {reprlib.repr(mistake['input'])}"
        raise ArtifactError(f"{path} is malformed: `{field}` {found}; compile the model again.") from error


def _absence(folder: Path) -> str:
    if (folder / "config.json").exists():
        return (
            f"{folder} is a Hugging Face checkpoint and not a compiled model; compile it first: write the folder as "
            "`frontend.checkpoint` in a CONFIG.yaml, and run `ilmari compile CONFIG.yaml`."
        )
    reason = f"it has no {FILE_NAME}" if folder.is_dir() else "it is a file" if folder.exists() else "it does not exist"
    return f"{folder} is not a compiled model: {reason}; make one with `ilmari compile CONFIG.yaml`."


def _digest(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
