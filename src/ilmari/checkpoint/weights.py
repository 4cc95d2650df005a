"""Which file of a checkpoint folder holds which tensor: one file, or shards with an index."""

import re
import reprlib
from collections.abc import Mapping
from pathlib import Path

from ilmari.checkpoint.folder import read_object
from ilmari.checkpoint.safetensors import SafetensorsFile
from ilmari.errors import CheckpointError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_MAX_INDEX_BYTES = 16 << 20
_PLAIN_NAME = re.compile(r"\w[\w.-]*\.safetensors", re.ASCII)


def find_weights(folder: Path) -> Mapping[str, SafetensorsFile]:
    """The file of every tensor in a folder; only headers are read.

    Raises:
        CheckpointError: no safetensors files, both layouts at once, or an index and shards that disagree.
    """
    single, index = folder / SINGLE, folder / INDEX
    if single.is_file() and index.is_file():
        raise CheckpointError(f"{folder} holds both {SINGLE} and {INDEX}; remove the one that is out of date.")
    if index.is_file():
        return _sharded(folder, _weight_map(index), index)
    if single.is_file():
        file = SafetensorsFile.open(single)
        return dict.fromkeys(file.tensors, file)
    raise _no_weights(folder)


def _no_weights(folder: Path) -> CheckpointError:
    pickles = sorted(path.name for path in folder.glob("pytorch_model*.bin"))
    if not pickles:
        return CheckpointError(f"{folder} holds neither {SINGLE} nor {INDEX}; the checkpoint is not complete.")
    return CheckpointError(
        f"{folder} holds its weights as pickles ({pickles[0]}), which ilmari never reads because a pickle can run "
        "code; convert them where you trust them, with transformers: "
        "`AutoModelForCausalLM.from_pretrained(..., trust_remote_code=True)` and then `save_pretrained(...)`, "
        "which writes safetensors."
    )


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor name to shard name; shard names are plain, so they cannot lead out of the folder."""
    weight_map = read_object(index, _MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: 'weight_map' is missing or not an object from tensor names to shards.")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not _PLAIN_NAME.fullmatch(shard):
            raise CheckpointError(
                f"{index}: tensor {name!r} is said to be in {reprlib.repr(shard)}, but the plain name of a "
                ".safetensors file in the same folder is expected."
            )
    return weight_map


def _sharded(folder: Path, weight_map: Mapping[str, str], index: Path) -> Mapping[str, SafetensorsFile]:
    found: dict[str, SafetensorsFile] = {}
    for shard in sorted(set(weight_map.values())):
        if not (folder / shard).is_file():
            raise CheckpointError(f"{folder / shard} is missing, though {INDEX} lists it; fetch it again.")
        file = SafetensorsFile.open(folder / shard)
        for name in file.tensors:
            if name in found:
                raise CheckpointError(f"{folder}: tensor {name!r} is both in {found[name].path.name} and in {shard}.")
            if name not in weight_map:
                raise CheckpointError(f"{file.path}: tensor {name!r} is in this shard but not in {INDEX}.")
            found[name] = file
    for name, shard in weight_map.items():
        if name not in found or found[name].path.name != shard:
            raise CheckpointError(f"{index}: tensor {name!r} is said to be in {shard}, but it is not there.")
    return found
