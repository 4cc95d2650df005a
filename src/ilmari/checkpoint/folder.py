"""The folder of a checkpoint, and the JSON in it, read with suspicion."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ilmari.errors import CheckpointError

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_EXAMPLE_ID = "internlm/internlm2-chat-1_8b"


def require_folder(folder: Path) -> None:
    """Check that `folder` is a folder on this machine.

    Raises:
        CheckpointError: it does not exist (the message says how to fetch a checkpoint) or is a file.
    """
    try:
        if folder.is_dir():
            return
        exists = folder.exists()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(folder)!r} cannot be opened as a checkpoint folder ({error}).") from error
    if exists:
        raise CheckpointError(f"{folder} is a file; give the checkpoint folder that holds config.json instead.")
    hub_id = str(folder) if _HUB_ID.fullmatch(str(folder)) else _EXAMPLE_ID
    local_dir = hub_id.rpartition("/")[2]
    raise CheckpointError(
        f"{folder} does not exist, and ilmari does not download from a hub: fetch the checkpoint yourself, "
        f"for example with `hf download {hub_id} --local-dir {local_dir}`, and give the path of that folder."
    )


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """The content of a file of at most `max_bytes` bytes.

    Raises:
        CheckpointError: the file is missing, unreadable or too large.
    """
    try:
        if not path.is_file():
            raise CheckpointError(f"{path} is missing; the folder is not a complete checkpoint, so fetch it again.")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}).") from error
    if len(data) > max_bytes:
        raise CheckpointError(f"{path} is larger than the {max_bytes:,} bytes that such a file may have.")
    return data


def read_object(path: Path, max_bytes: int) -> dict[str, Any]:
    """The JSON object in a file; errors as for `read_bounded` and `parse_object`."""
    return parse_object(read_bounded(path, max_bytes), str(path))


def parse_object(data: bytes, source: str) -> dict[str, Any]:
    """The JSON object that UTF-8 bytes hold; `source` names them in messages.

    Raises:
        CheckpointError: not UTF-8, not JSON (NaN and Infinity are not), a repeated key, or not an object.
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_reject)
    except RecursionError as error:
        raise CheckpointError(f"{source} is not usable JSON: it is nested too deeply.") from error
    except ValueError as error:
        raise CheckpointError(f"{source} is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{source} holds a JSON {type(value).__name__}, but an object is expected.")
    return value


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} occurs twice in one object")
        result[key] = value
    return result


def _reject(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")
