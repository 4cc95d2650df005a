"""One safetensors file, read without trusting it.

The format: 8 bytes little-endian length of the header, the header (a JSON object from tensor name to dtype, shape and
`data_offsets`, which count from the end of the header), then the data. Nothing is believed until it is checked, and
data is mapped for the length of one read only, so that resident memory stays that of the rows asked for.
"""

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TypeGuard

import numpy as np
import numpy.typing as npt

from ilmari.checkpoint.folder import parse_object
from ilmari.errors import CheckpointError

Float32 = npt.NDArray[np.float32]

_MAX_HEADER_BYTES = 16 << 20  # the header of a 20B model takes 60 kB
_MAX_RANK = 8


def _widen(values: npt.NDArray[np.float32] | npt.NDArray[np.float16]) -> Float32:
    with np.errstate(invalid="ignore"):  # a signalling NaN is reported by name, not by a warning
        return np.array(values, dtype=np.float32)


def _widen_bfloat16(bits: npt.NDArray[np.uint16]) -> Float32:
    """bfloat16 is the upper half of a float32."""
    wide = np.array(bits, dtype=np.uint32)
    wide <<= 16
    return wide.view(np.float32)


@dataclass(frozen=True)
class _Encoding:
    stored: np.dtype[np.generic]
    decode: Callable[..., Float32]


ENCODINGS: Mapping[str, _Encoding] = MappingProxyType(
    {
        "F16": _Encoding(np.dtype("<f2"), _widen),
        "BF16": _Encoding(np.dtype("<u2"), _widen_bfloat16),
        "F32": _Encoding(np.dtype("<f4"), _widen),
    }
)


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: `start` and `stop` are byte offsets from the beginning of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class SafetensorsFile:
    """A file whose header is read and checked, and whose data is not yet touched."""

    path: Path
    tensors: Mapping[str, TensorInfo] = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> "SafetensorsFile":
        """Read and check the header of a file.

        Raises:
            CheckpointError: the file is unreadable, truncated, not safetensors, or its header contradicts itself.
        """
        header, data_start, size = _read_header(path)
        header.pop("__metadata__", None)
        tensors = {
            name: _tensor_info(f"{path}: tensor {name!r}", entry, data_start, size) for name, entry in header.items()
        }
        _check_overlap(path, tensors)
        return cls(path, MappingProxyType(tensors))

    def read_rows(self, name: str, start: int = 0, stop: int | None = None) -> Float32:
        """Rows of a tensor, as in `tensor[start:stop]`, in memory of their own.

        Args:
            name: a key of `tensors`.
            start: the first row.
            stop: one past the last row; None for all.

        Returns:
            float32 [stop - start, ...]; F16 and BF16 are widened exactly.

        Raises:
            CheckpointError: the file was altered since it was opened, or a value is not finite.
        """
        info = self.tensors[name]
        encoding = ENCODINGS[info.dtype]
        try:
            mapped = np.memmap(self.path, encoding.stored, mode="r", offset=info.start, shape=info.shape)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self.path}: tensor {name!r} can no longer be read ({error}).") from error
        values = encoding.decode(mapped[start:stop])
        if not np.isfinite(values).all():
            raise CheckpointError(
                f"{self.path}: tensor {name!r} holds NaN or infinite values; the file is damaged, so fetch it again."
            )
        return values


def _read_header(path: Path) -> tuple[dict[str, object], int, int]:
    """The parsed header, the offset of the first data byte, the size of the file."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8:
                raise CheckpointError(f"{path} is truncated: {size} bytes cannot hold a safetensors header.")
            if not 2 <= length <= _MAX_HEADER_BYTES:
                raise CheckpointError(
                    f"{path} is not a safetensors file: it announces a header of {length:,} bytes, "
                    f"but 2 to {_MAX_HEADER_BYTES:,} are expected."
                )
            if 8 + length > size:
                raise CheckpointError(
                    f"{path} is truncated: its header takes {8 + length:,} bytes and the file has {size:,}."
                )
            return parse_object(file.read(length), f"the header of {path}"), 8 + length, size
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}).") from error


def _tensor_info(source: str, entry: object, data_start: int, size: int) -> TensorInfo:
    """One entry of the header, checked against the size of the file."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(
            f"{source} is described by {reprlib.repr(entry)}, but exactly dtype, shape and data_offsets are expected."
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ENCODINGS:
        raise CheckpointError(
            f"{source} has dtype {reprlib.repr(dtype)}, but one of {', '.join(ENCODINGS)} is expected; "
            "give a checkpoint that is not quantized."
        )
    if not _are_counts(shape) or len(shape) > _MAX_RANK:
        raise CheckpointError(f"{source} has shape {reprlib.repr(shape)}, but a short list of sizes is expected.")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{source} has data_offsets {reprlib.repr(offsets)}, but [begin, end] is expected.")
    needed = math.prod(shape) * ENCODINGS[dtype].stored.itemsize
    if offsets[1] - offsets[0] != needed:
        raise CheckpointError(
            f"{source} spans {offsets[1] - offsets[0]:,} bytes, but {dtype} of shape {reprlib.repr(shape)} "
            f"takes {needed:,}."
        )
    if data_start + offsets[1] > size:
        raise CheckpointError(
            f"{source} ends at byte {data_start + offsets[1]:,}, but the file has {size:,}: "
            "it is truncated, so fetch it again."
        )
    return TensorInfo(dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _are_counts(value: object) -> TypeGuard[list[int]]:
    """A list of integers of at least 0 that fit into 63 bits."""
    return isinstance(value, list) and all(
        isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 1 << 63 for item in value
    )


def _check_overlap(path: Path, tensors: Mapping[str, TensorInfo]) -> None:
    ordered = sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop))
    for (name, info), (next_name, next_info) in pairwise(ordered):
        if info.stop > next_info.start:
            raise CheckpointError(f"{path}: the tensors {name!r} and {next_name!r} overlap; the file is damaged.")
