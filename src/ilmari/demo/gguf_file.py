"""Read a GGUF file: metadata as Python values, tensors as float32."""

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize
from numpy.typing import NDArray

from ilmari.errors import CheckpointError


class GgufFile:
    """One GGUF file, memory-mapped; `tensor_names` are those of its tensors."""

    def __init__(self, path: Path) -> None:
        """Open `path`.

        Raises:
            CheckpointError: the file is absent or is not GGUF.
        """
        self.path = path
        try:
            reader = GGUFReader(path)
        except (OSError, ValueError, IndexError, KeyError) as error:
            raise CheckpointError(
                f"{path} cannot be read as a GGUF file ({error}); delete it and fetch the demo weights again."
            ) from error
        self._fields = reader.fields
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.tensor_names = frozenset(self._tensors)

    def metadata(self, key: str) -> Any:
        """The value of a metadata key: a number, a boolean, a string or a list of those.

        Raises:
            CheckpointError: the file has no such key.
        """
        if key not in self._fields:
            raise CheckpointError(f"{self.path} has no metadata key {key!r}; use a GGUF file that records it.")
        return self._fields[key].contents()

    def real(self, key: str) -> float:
        """A float32 metadata value as the shortest decimal that stands for it: 1e-05, not 9.999999747378752e-06."""
        return float(str(np.float32(self.metadata(key))))

    def tensor(self, name: str) -> NDArray[np.float32]:
        """A tensor dequantized to float32, in row-major (outputs, inputs) order.

        Raises:
            CheckpointError: the file has no such tensor.
        """
        if name not in self._tensors:
            raise CheckpointError(f"{self.path} has no tensor {name!r}; use a GGUF file of a Llama model.")
        stored = self._tensors[name]
        return dequantize(stored.data, stored.tensor_type).astype(np.float32, copy=False)
