"""What every result of `ilmari eval` says of itself: which model, on what machine; and what makes two jobs the same."""

from __future__ import annotations

import hashlib
import sys
from importlib.metadata import version
from typing import Any

from ilmari.artifact.manifest import Manifest, manifest_bytes
from ilmari.evaluation.journal import Journal


def job_of(verb: str, manifests: list[Manifest], **decisive: Any) -> dict[str, Any]:
    """A job as its journal knows it: the models to the byte, and whatever else decides its results."""
    models = [hashlib.sha256(manifest_bytes(manifest)).hexdigest() for manifest in manifests]
    return {"verb": verb, "ilmari": version("ilmari"), "models": models, **decisive}


def model_fields(manifest: Manifest) -> dict[str, Any]:
    """The model of a result, as JSON."""
    return {"model": manifest.name, "scheme": manifest.scheme, "activation": manifest.activation}


def say_what_is_done(journal: Journal, units: str) -> None:
    """A line to stderr, if an earlier run is continued."""
    if journal.finished:
        print(f"goes on after {journal.finished} {units} of an interrupted run", file=sys.stderr)
