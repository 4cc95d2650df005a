"""Where a calibration keeps what it has done, so that one that was interrupted goes on where it was.

A hidden sibling of the artifact holds the quantized layers, the inputs of the next one, and a fingerprint of everything
that both depend on. Each file appears whole or not at all, and nothing is removed before what replaces it is on disk.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from collections.abc import Sequence as Many
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ilmari.artifact.lock import lock, system_errors
from ilmari.artifact.quantization import ProjectionErrors
from ilmari.compile.quantized_layer import QuantizedLayer
from ilmari.errors import OutputError
from ilmari.quant.weight import ScaledWeight

_FINGERPRINT, _LOCK, _SAMPLES = "fingerprint", "lock", "samples"


class WorkFolder:
    """A context: a folder that one compilation has to itself. It goes when the block ends without an error, or empty.

    Raises:
        OutputError: another process works in it, the system refuses a file, or a file in it is damaged.
    """

    def __init__(self, output: Path) -> None:
        """The folder for the artifact at `output`."""
        place = Path(os.path.realpath(output))
        self.folder = place.parent / f".{place.name}.calibration"

    def __enter__(self) -> WorkFolder:
        with system_errors(self.folder):
            self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or not any((self.folder / name).exists() for name in (_SAMPLES, "layer-0")):
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def begin(self, fingerprint: Mapping[str, Any]) -> None:
        """Keep what the folder holds from before if it had the same fingerprint, JSON; else clear it."""
        wanted = json.dumps(fingerprint, sort_keys=True).encode()
        with system_errors(self.folder):
            path = self.folder / _FINGERPRINT
            if not path.exists() or path.read_bytes() != wanted:
                path.unlink(missing_ok=True)  # first, so that what is half cleared never counts
                self._clear()
                self._write(_FINGERPRINT, wanted)

    def layers_done(self, count: int) -> int:
        """Layers from which a calibration of `count` layers can go on: all, or as many as have left their outputs."""
        if (self.folder / f"layer-{count - 1}").exists():
            return count
        return max((int(path.name.removeprefix("hidden-")) for path in self.folder.glob("hidden-*")), default=0)

    def write_layer(self, index: int, layer: QuantizedLayer) -> None:
        """Keep a layer."""
        tensors = {"attention_norm": layer.attention_norm, "ffn_norm": layer.ffn_norm}
        for name, weight in layer.linears.items():
            tensors |= {f"{name}.values": weight.values, f"{name}.scale": weight.scale}
        self._write_tensors(f"layer-{index}", tensors, {"errors": json.dumps([asdict(each) for each in layer.errors])})

    def layer(self, index: int) -> QuantizedLayer:
        """A layer that was kept."""
        tensors, metadata = self._read_tensors(f"layer-{index}")
        linears = {
            name.removesuffix(".values"): ScaledWeight(values, tensors[name.replace(".values", ".scale")])
            for name, values in tensors.items()
            if name.endswith(".values")
        }
        errors = tuple(ProjectionErrors(**each) for each in json.loads(metadata["errors"]))
        return QuantizedLayer(tensors["attention_norm"], tensors["ffn_norm"], linears, errors)

    def write_hidden(self, done: int, hidden: NDArray[np.float32]) -> None:
        """Keep the outputs of the first `done` layers, and no others."""
        self._write_tensors(f"hidden-{done}", {"hidden": hidden})
        with system_errors(self.folder):
            (self.folder / f"hidden-{done - 1}").unlink(missing_ok=True)

    def hidden(self, done: int) -> NDArray[np.float32]:
        """The outputs of the first `done` layers."""
        tensors, _ = self._read_tensors(f"hidden-{done}")
        return tensors["hidden"]

    def write_samples(self, samples: Many[NDArray[np.int32]]) -> None:
        """Keep the token ids of the calibration data."""
        lengths = np.array([len(sample) for sample in samples], np.int32)
        self._write_tensors(_SAMPLES, {"tokens": np.concatenate(samples), "lengths": lengths})

    @property
    def has_samples(self) -> bool:
        """Whether the calibration data is there."""
        return (self.folder / _SAMPLES).exists()

    def samples(self) -> list[NDArray[np.int32]]:
        """The token ids of the calibration data."""
        tensors, _ = self._read_tensors(_SAMPLES)
        return np.split(tensors["tokens"], np.cumsum(tensors["lengths"])[:-1])

    def _take(self) -> None:
        """Make the folder, and lock it. A folder that is removed by the process that had it is made again."""
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock = (self.folder / _LOCK).open("wb")
            except FileNotFoundError:
                continue
            if lock(self._lock) is False:
                self._lock.close()
                raise OutputError(
                    f"{self.folder} is in use by another compilation; wait for its end, or choose another `name`."
                )
            try:
                if os.path.samestat(os.fstat(self._lock.fileno()), (self.folder / _LOCK).stat()):
                    return
            except FileNotFoundError:
                pass
            self._lock.close()

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != _LOCK:
                path.unlink()

    def _write_tensors(
        self, name: str, tensors: dict[str, NDArray[Any]], metadata: dict[str, str] | None = None
    ) -> None:
        with system_errors(self.folder):
            self._write(name, save(tensors, metadata))

    def _write(self, name: str, data: bytes) -> None:
        path, partial = self.folder / name, self.folder / f"partial-{name}"
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)

    def _read_tensors(self, name: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        try:
            with safe_open(self.folder / name, framework="numpy") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise OutputError(f"{self.folder / name} is damaged ({error}); remove {self.folder}.") from error
