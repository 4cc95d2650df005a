"""config.json of a Hugging Face folder, parsed strictly into a ModelConfig.

Every key that matters must be there: the defaults of Hugging Face's `InternLM2Config` match no released checkpoint,
so a silent default would be a silently wrong model.
"""

import math
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from ilmari.checkpoint.folder import read_object, require_folder
from ilmari.errors import CheckpointError
from ilmari.model.config import DynamicNtk, ModelConfig
from ilmari.model.family import find_family

_MAX_BYTES = 1 << 20
_MAX_INPUTS = 1 << 16  # so many products of two int8 are added exactly in int32
_MAX_ELEMENTS = (1 << 31) - 1  # of one tensor, which kernels index in 32 bits
_SCALING_KEYS = frozenset({"type", "rope_type", "factor"})


@dataclass(frozen=True)
class ConfigFile:
    """What config.json says: the model, and whether the output head is the embedding matrix."""

    model: ModelConfig
    tied_head: bool


def read_config_file(folder: Path) -> ConfigFile:
    """What `folder/config.json` says.

    Raises:
        CheckpointError: the folder or the file is absent, not JSON, or a key is missing, mistyped or not supported.
    """
    require_folder(folder)
    path = folder / "config.json"
    keys = _Keys(path, read_object(path, _MAX_BYTES))
    family = find_family(keys.value("architectures"), str(path))
    keys.require("hidden_act", "silu")
    if keys.boolean("bias"):
        raise CheckpointError(f"{path}: 'bias' is true, and projections with a bias are not supported yet.")

    hidden_size = keys.integer("hidden_size", maximum=_MAX_INPUTS, multiple=32)
    heads = keys.integer("num_attention_heads", maximum=1 << 12)
    kv_heads = keys.integer("num_key_value_heads", maximum=1 << 12)
    if heads % kv_heads:
        raise keys.wrong("num_attention_heads", f"a multiple of num_key_value_heads ({kv_heads})")
    vocab_size = keys.integer("vocab_size", maximum=1 << 24)
    model = ModelConfig(
        architecture=family.architecture,
        hidden_size=hidden_size,
        intermediate_size=keys.integer("intermediate_size", maximum=_MAX_INPUTS),
        num_hidden_layers=keys.integer("num_hidden_layers", maximum=1 << 10),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=_head_dim(keys, hidden_size, heads),
        vocab_size=vocab_size,
        # float32 angles hold positions up to 2**24 exactly
        max_position_embeddings=keys.integer("max_position_embeddings", maximum=1 << 24),
        rms_norm_eps=keys.positive_number("rms_norm_eps"),
        rope_theta=keys.positive_number("rope_theta"),
        rope_scaling=_rope_scaling(keys),
        bos_token_id=keys.token_id("bos_token_id", vocab_size),
        eos_token_id=_eos_token_id(keys, vocab_size),
    )
    _check_sizes(path, model)
    return ConfigFile(model, tied_head=keys.boolean("tie_word_embeddings"))


def _check_sizes(path: Path, model: ModelConfig) -> None:
    """Every matrix must be one that kernels can index, and add up exactly."""
    if model.q_size > _MAX_INPUTS:
        raise CheckpointError(
            f"{path}: num_attention_heads times head_dim is {model.q_size}, but at most {_MAX_INPUTS} is supported."
        )
    rows = {
        "the embedding": model.vocab_size,
        "the gate and up projection": 2 * model.intermediate_size,
        "the query, key and value projection": model.q_size + 2 * model.kv_size,
    }
    for name, count in rows.items():
        if (elements := count * model.hidden_size) > _MAX_ELEMENTS:
            raise CheckpointError(
                f"{path}: {name} has {elements:,} elements by its sizes, but at most {_MAX_ELEMENTS:,} are supported."
            )


@dataclass(frozen=True)
class _Keys:
    """The keys of one JSON object, each read with its type and range."""

    path: Path
    values: dict[str, object]

    def value(self, key: str) -> object:
        if key not in self.values:
            raise CheckpointError(f"{self.path}: the key {key!r} is missing, and ilmari assumes no default for it.")
        return self.values[key]

    def wrong(self, key: str, expected: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path}: {key!r} is {reprlib.repr(self.values.get(key))}, but {expected} is expected."
        )

    def require(self, key: str, expected: str) -> None:
        if self.value(key) != expected:
            raise self.wrong(key, f"{expected!r} (the only one supported)")

    def boolean(self, key: str) -> bool:
        value = self.value(key)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def integer(self, key: str, maximum: int, multiple: int = 1) -> int:
        value = self.value(key)
        if not _is_integer(value) or not 1 <= value <= maximum or value % multiple:
            what = f"a multiple of {multiple}" if multiple > 1 else "an integer"
            raise self.wrong(key, f"{what} from {multiple} to {maximum}")
        return value

    def positive_number(self, key: str) -> float:
        value = self.value(key)
        if not _is_number(value) or value <= 0:
            raise self.wrong(key, "a positive finite number")
        return float(value)

    def token_id(self, key: str, vocab_size: int) -> int:
        value = self.value(key)
        if not _is_token_id(value, vocab_size):
            raise self.wrong(key, f"a token id from 0 to {vocab_size - 1}")
        return value


def _head_dim(keys: _Keys, hidden_size: int, heads: int) -> int:
    """`head_dim` where given (null is as good as absent), else hidden_size / heads."""
    if keys.values.get("head_dim") is not None:
        return keys.integer("head_dim", maximum=1 << 10, multiple=32)
    if hidden_size % heads or hidden_size // heads % 32:
        raise keys.wrong("hidden_size", f"num_attention_heads ({heads}) times a head_dim that is a multiple of 32")
    return hidden_size // heads


def _rope_scaling(keys: _Keys) -> DynamicNtk | None:
    """None, or dynamic NTK; its kind stands under `type` (InternLM2) or `rope_type` (newer exports) or both."""
    value = keys.value("rope_scaling")
    if value is None:
        return None
    expected = 'null or {"type": "dynamic", "factor": a number of at least 1}'
    if not isinstance(value, dict):
        raise keys.wrong("rope_scaling", expected)
    kinds = [value[key] for key in ("type", "rope_type") if key in value]
    for kind in kinds:
        if kind != "dynamic":
            raise CheckpointError(
                f"{keys.path}: 'rope_scaling' is of the kind {reprlib.repr(kind)}, and only 'dynamic' is supported."
            )
    factor = value.get("factor")
    if not kinds or not _SCALING_KEYS.issuperset(value) or not _is_number(factor) or factor < 1:
        raise keys.wrong("rope_scaling", expected)
    return DynamicNtk(float(factor))


def _eos_token_id(keys: _Keys, vocab_size: int) -> int:
    """The end-of-sequence id; of a list the first, and the others must be token ids too."""
    value = keys.value("eos_token_id")
    listed = value if isinstance(value, list) else [value]
    ids = [item for item in listed if _is_token_id(item, vocab_size)]
    if not ids or len(ids) < len(listed):
        raise keys.wrong("eos_token_id", f"a token id from 0 to {vocab_size - 1}, or a list of them,")
    return ids[0]


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_token_id(value: object, vocab_size: int) -> TypeGuard[int]:
    return _is_integer(value) and 0 <= value < vocab_size


def _is_number(value: object) -> TypeGuard[float]:
    """Finite as a float: 1e999 and an integer of a thousand digits are not."""
    try:
        return (_is_integer(value) or isinstance(value, float)) and math.isfinite(value)
    except OverflowError:
        return False
