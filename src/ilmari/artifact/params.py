"""The parameter files, one for each rank: safetensors whose header is a function of the plan.

Tensors follow each other in the plan's order without holes, each a multiple of 64 bytes, and the header is padded so
that the first one begins on a page. So the whole file is mapped once, and each tensor is a view that kernels can read.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilmari.artifact.page_cache import ask_for_huge_pages
from ilmari.errors import ArtifactError
from ilmari.kernels.plan import Plan, TensorShape
from ilmari.kernels.scheme import storage

FOLDER = "params"
PAGE = 4096
"""Bytes: where the first tensor begins is the same whatever the pages of the machine that writes or reads."""

DTYPE_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8", "uint8": "U8"}
"""A plan's dtypes and the names that safetensors has for them."""


def file_name(rank: int) -> str:
    """The path of a rank's file in the artifact's folder."""
    return f"{FOLDER}/rank{rank}.safetensors"


def tensor_bytes(shape: TensorShape) -> int:
    """Size of a tensor's data in bytes."""
    return math.prod(shape.shape) * np.dtype(storage(shape.dtype)).itemsize


def params_bytes(plan: Plan) -> int:
    """Size in bytes of all tensors of a rank."""
    return sum(tensor_bytes(shape) for shape in plan.tensors)


def step_params_bytes(plan: Plan) -> int:
    """Size in bytes of what every step reads on a rank: all tensors but the embedding, of which it takes a few rows."""
    return sum(tensor_bytes(shape) for shape in plan.tensors if shape.name != "embedding")


def header_bytes(plan: Plan) -> bytes:
    """The first bytes of a rank's file, up to the data: length, JSON, and spaces up to a whole page."""
    entries: dict[str, Any] = {}
    offset = 0
    for shape in plan.tensors:
        end = offset + tensor_bytes(shape)
        entries[shape.name] = {
            "dtype": DTYPE_NAMES[shape.dtype],
            "shape": shape.shape,
            "data_offsets": (offset, end),
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    padding = -(8 + len(text)) % PAGE
    return (len(text) + padding).to_bytes(8, "little") + text + b" " * padding


def check_header(path: Path, plan: Plan) -> None:
    """Raise unless the file's shapes and offsets are those of the plan.

    Raises:
        ArtifactError: the header is another one, or the file's size does not fit it.
    """
    expected = header_bytes(plan)
    with path.open("rb") as file:
        found = file.read(len(expected))
    if found != expected:
        raise ArtifactError(
            f"{path} does not hold the tensors of the manifest's model (shapes or offsets differ); "
            "compile the model again."
        )
    size = len(expected) + params_bytes(plan)
    if path.stat().st_size != size:
        raise ArtifactError(
            f"{path} has {path.stat().st_size:,} bytes, {size:,} were expected; compile the model again."
        )


def map_params(path: Path, plan: Plan) -> Mapping[str, NDArray[Any]]:
    """Every tensor of the file by name, as views of one memory mapping; bfloat16 by its bits, as uint16.

    Raises:
        ArtifactError: as `check_header`.
    """
    check_header(path, plan)
    with path.open("rb") as file:
        # Copy-on-write is never used, but a writable view is what DLPack can hand over.
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    ask_for_huge_pages(mapping)
    mapped = np.frombuffer(mapping, np.uint8, offset=len(header_bytes(plan)))
    tensors: dict[str, NDArray[Any]] = {}
    offset = 0
    for shape in plan.tensors:
        end = offset + tensor_bytes(shape)
        tensors[shape.name] = mapped[offset:end].view(storage(shape.dtype)).reshape(shape.shape)
        offset = end
    return tensors
