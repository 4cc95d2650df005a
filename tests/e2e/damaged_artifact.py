"""Damage to an artifact, and seals put on again so that only the content can tell."""

import hashlib
import json
from pathlib import Path
from typing import Any

import xxhash

MANIFEST = "manifest.json"
PARAMS = "params/rank0.safetensors"


def read_manifest(artifact: Path) -> dict[str, Any]:
    """What the manifest says, without its seal."""
    fields: dict[str, Any] = json.loads((artifact / MANIFEST).read_text(encoding="utf-8"))
    fields.pop("digest")
    return fields


def write_manifest(artifact: Path, fields: dict[str, Any]) -> None:
    """Write a manifest and seal it."""
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    (artifact / MANIFEST).write_text(json.dumps(fields | {"digest": digest}), encoding="utf-8")


def seal(artifact: Path) -> None:
    """Record every file that the manifest lists as it is now; those that are gone are no longer listed."""
    fields = read_manifest(artifact)
    fields["files"] = [
        {
            "path": record["path"],
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "xxh3": xxhash.xxh3_128(data).hexdigest(),
        }
        for record in fields["files"]
        if (artifact / record["path"]).exists()
        for data in [(artifact / record["path"]).read_bytes()]
    ]
    write_manifest(artifact, fields)


def rewrite(artifact: Path, file: str, content: bytes) -> None:
    """Another content for a file, sealed."""
    (artifact / file).write_bytes(content)
    seal(artifact)
