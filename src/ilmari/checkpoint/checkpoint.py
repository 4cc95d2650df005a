"""A Hugging Face InternLM2 folder as canonical tensors, read layer by layer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from ilmari.checkpoint.config import read_config_file
from ilmari.checkpoint.names import INTERNLM2, check_names
from ilmari.checkpoint.safetensors import SafetensorsFile
from ilmari.checkpoint.weights import find_weights
from ilmari.checkpoint.wqkv import split_wqkv
from ilmari.errors import CheckpointError
from ilmari.model.config import ModelConfig

Float32 = npt.NDArray[np.float32]

_CHUNK = 1 << 20  # small enough to stay in cache between the read and the digest


@dataclass(frozen=True)
class LayerWeights:
    """The weights of one layer, float32, matrices as [out, in]."""

    attention_norm: Float32  # [hidden]
    q: Float32  # [q_size, hidden]
    k: Float32  # [kv_size, hidden]
    v: Float32  # [kv_size, hidden]
    o: Float32  # [hidden, q_size]
    ffn_norm: Float32  # [hidden]
    gate: Float32  # [intermediate, hidden]
    up: Float32  # [intermediate, hidden]
    down: Float32  # [hidden, intermediate]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose config, names and shapes are checked, and whose data is read when asked for.

    Every reading method raises CheckpointError if the file was altered meanwhile or a value is not finite.
    """

    path: Path
    config: ModelConfig
    tied_head: bool
    _files: Mapping[str, SafetensorsFile] = field(repr=False)

    @classmethod
    def open(cls, folder: Path) -> "Checkpoint":
        """Read config.json and the headers of the safetensors files in `folder`.

        Raises:
            CheckpointError: the folder is not a complete and consistent InternLM2 checkpoint.
        """
        config_file = read_config_file(folder)
        files = find_weights(folder)
        check_names(files, config_file.model, config_file.tied_head, str(folder))
        return cls(folder, config_file.model, config_file.tied_head, files)

    def layer(self, index: int) -> LayerWeights:
        """The weights of layer `index`, counted from 0."""
        q, k, v = split_wqkv(self._read("wqkv", index), self.config)
        return LayerWeights(
            attention_norm=self._read("attention_norm", index),
            q=q,
            k=k,
            v=v,
            o=self._read("o", index),
            ffn_norm=self._read("ffn_norm", index),
            gate=self._read("gate", index),
            up=self._read("up", index),
            down=self._read("down", index),
        )

    def final_norm(self) -> Float32:
        """The weight of the norm before the head, [hidden]."""
        return self._read("final_norm")

    def embedding_rows(self, start: int, stop: int) -> Float32:
        """Rows of the embedding, as in `embedding[start:stop]`: [n, hidden]."""
        return self._read("embedding", None, start, stop)

    def head_rows(self, start: int, stop: int) -> Float32:
        """Rows of the output head, [n, hidden]; with a tied head those of the embedding."""
        return self._read("embedding" if self.tied_head else "head", None, start, stop)

    def digest(self) -> str:
        """xxh3 (128 bits, hexadecimal) of what the files of weights hold, in the order of their names.

        Raises:
            CheckpointError: a file can no longer be read.
        """
        digest = xxhash.xxh3_128()
        for path in sorted({file.path for file in self._files.values()}):
            try:
                with path.open("rb") as file:
                    while data := file.read(_CHUNK):
                        digest.update(data)
            except OSError as error:
                raise CheckpointError(f"{path} can no longer be read ({error.strerror}).") from error
        return digest.hexdigest()

    def _read(self, canonical: str, layer: int | None = None, start: int = 0, stop: int | None = None) -> Float32:
        name = INTERNLM2[canonical].in_file(layer)
        return self._files[name].read_rows(name, start, stop)
