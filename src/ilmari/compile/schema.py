"""The vendor's YAML as typed keys: every key of its tool, what each may hold, and the sentence for a wrong one."""

import difflib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from ilmari.compile.yaml_reader import kind_of
from ilmari.errors import ConfigError


def _folder_name(name: str) -> str:
    if name in (".", "..") or "/" in name or "\\" in name or len(name.encode()) > 200:
        raise ValueError(name)
    return name


MAX_RANKS = 16

Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$")]
FolderName = Annotated[Text, AfterValidator(_folder_name)]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
SetName = Literal["alpaca", "c4", "ceval"]
Lengths = Annotated[list[Annotated[list[int], Field(min_length=1, max_length=1)]], Field(min_length=2, max_length=2)]

QuantizeType = Literal[
    "w8a16",
    "w8a8",
    "w8a16_gptq",
    "w8a8_gptq",
    "w16kv8",
    "w8a16_kv8",
    "w8a8_kv8",
    "w8a16_gptq_kv8",
    "w8a8_gptq_kv8",
]

_FLAG = "true or false"
_PATH = "a path"
_COUNT = "an integer, 1 or more"
_QUANTIZE_TYPES = " or ".join(", ".join(get_args(QuantizeType)).rsplit(", ", 1))
_SETS = "alpaca, c4 or ceval"


class Block(BaseModel):
    """A mapping of the file; each field's description completes the sentence "expected ..."."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Shape(Block):
    """`frontend.shape`."""

    input_ids: Lengths = Field(description="[[longest prompt], [longest sequence]], two integers in lists of their own")


class ModelKwargs(Block):
    """`frontend.model_kwargs`."""

    tp: Annotated[int, Field(ge=1, le=MAX_RANKS)] = Field(default=1, description=f"an integer from 1 to {MAX_RANKS}")
    b2s: bool | None = Field(default=None, description=_FLAG)
    model_arch: Text | None = Field(default=None, description="a name such as vacc")
    align_qkv: bool | None = Field(default=None, description=_FLAG)


class CalibArgs(Block):
    """`frontend.quantize.calib_args`."""

    true_sequential: bool | None = Field(default=None, description=_FLAG)
    act_order: bool | None = Field(default=None, description=_FLAG)
    damp_percent: Fraction | None = Field(default=None, description="a number above 0 and below 1")


class Quantize(Block):
    """`frontend.quantize`."""

    type: QuantizeType | None = Field(default=None, description=_QUANTIZE_TYPES)
    device: Text | None = Field(default=None, description="a device such as cuda:0")
    calib_args: CalibArgs | None = Field(default=None, description="a mapping")


class Frontend(Block):
    """`frontend`: the model and its shape."""

    checkpoint: Text = Field(description="the path of a Hugging Face folder")
    type: Literal["huggingface"] = Field(default="huggingface", description="huggingface")
    shape: Shape = Field(description="a mapping")
    model_kwargs: ModelKwargs = Field(default_factory=ModelKwargs, description="a mapping")
    quantize: Quantize | None = Field(default=None, description="a mapping")


class BackendCompile(Block):
    """`backend.compile`."""

    data_type: int | None = Field(default=None, description="an integer")
    gather_data_vccl_dsp_enable: bool | None = Field(default=None, description=_FLAG)


class Backend(Block):
    """`backend`: the precision and the code generator."""

    type: Literal["tvm_vacc"] | None = Field(default=None, description="tvm_vacc")
    dtype: Literal["fp16", "bf16", "int8"] = Field(description="fp16, bf16 or int8")
    merge_params: bool | None = Field(default=None, description=_FLAG)
    compile: BackendCompile | None = Field(default=None, description="a mapping")


class Ingredient(Block):
    """An item of `dataset.mix`: one of several calibration sets."""

    name: SetName = Field(description=_SETS)
    path: Text = Field(description=_PATH)
    weight: float = Field(default=1.0, gt=0, le=1e6, description="a positive number, up to 1000000")


class Dataset(Block):
    """`dataset`: the calibration set, or a mixture of several."""

    type: Literal["huggingface"] | None = Field(default=None, description="huggingface")
    nsamples: Count | None = Field(default=None, description=_COUNT)
    name: SetName | None = Field(default=None, description=_SETS)
    path: Text | None = Field(default=None, description=_PATH)
    seqlen: Count | None = Field(default=None, description=_COUNT)
    seed: int | None = Field(default=None, ge=0, description="an integer, 0 or more")
    mix: list[Ingredient] | None = Field(
        default=None, min_length=1, max_length=16, description="a list of 1 to 16 mappings of name, path and weight"
    )


class Workspace(Block):
    """`workspace`: where the artifact goes."""

    path: Text = Field(description=_PATH)
    workers: Count | None = Field(default=None, description=_COUNT)


class VendorConfig(Block):
    """The whole file."""

    name: FolderName = Field(description="a plain folder name, without slashes, of at most 200 bytes")
    frontend: Frontend = Field(description="a mapping")
    backend: Backend = Field(description="a mapping")
    dataset: Dataset | None = Field(default=None, description="a mapping")
    workspace: Workspace = Field(description="a mapping")


def _block_of(annotation: object) -> type[Block] | None:
    """The block that a field holds, perhaps in a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return annotation
    return next(filter(None, map(_block_of, get_args(annotation))), None)


def _walk(block: type[Block], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in block.model_fields.items():
        yield prefix + name, field
        if inner := _block_of(field.annotation):
            yield from _walk(inner, f"{prefix}{name}.")


KEYS: dict[str, FieldInfo] = dict(_walk(VendorConfig))
"""Every key of the file by its full path, blocks included."""


def given_keys(block: Block, prefix: str = "") -> Iterator[str]:
    """The full paths of the values that a file really has, without their blocks; a null counts as absent."""
    for name in type(block).model_fields:
        value = getattr(block, name)
        if isinstance(value, Block):
            yield from given_keys(value, f"{prefix}{name}.")
        elif name in block.model_fields_set and value is not None:
            yield prefix + name


def validate(tree: dict[str, object], origin: Callable[[str], str]) -> VendorConfig:
    """Give a parsed file its types.

    Args:
        tree: what the YAML file and the overrides say.
        origin: full key path -> what set it there, the beginning of the sentence about a mistake.

    Raises:
        ConfigError: the first mistake: an unknown key before any other.
    """
    try:
        return VendorConfig.model_validate(tree)
    except ValidationError as error:
        # The misspelling of a required key is both unknown and missing: the first says more.
        mistake = min(error.errors(include_url=False), key=lambda each: each["type"] not in _UNKNOWN)
    place = mistake["loc"]
    keys = [part for part in place if isinstance(part, str)]  # an integer is an index into a list
    if mistake["type"] in _UNKNOWN:
        keys = [*keys, str(place[-1])] if isinstance(place[-1], int) else keys
        sentence = unknown_key(keys)
    elif mistake["type"] == "missing":
        sentence = _missing(".".join(keys))
    else:
        sentence = _wrong(place, tree)
    raise ConfigError(f"{origin('.'.join(keys))}: {sentence}")


_UNKNOWN = {"extra_forbidden", "invalid_key"}


def unknown_key(keys: Sequence[str]) -> str:
    """The sentence about a key path that the schema does not have, with the nearest key that it has."""
    *blocks, name = keys
    if "." in name:
        return f"unknown key `{name}`; keys have no dots, so write the part behind each dot inside a mapping."
    beside, elsewhere = {}, []
    for path in KEYS:
        parent, _, known = path.rpartition(".")
        if parent == ".".join(blocks):
            beside[known] = path
        elif known == name:
            elsewhere.append(path)
    near = elsewhere or [beside[known] for known in difflib.get_close_matches(name, beside, n=1)]
    hint = f"did you mean `{'` or `'.join(near)}`?" if near else f"the keys known there are {', '.join(beside)}."
    return f"unknown key `{'.'.join(keys)}`; {hint}"


def _missing(path: str) -> str:
    required = (key for key, field in KEYS.items() if field.is_required() and not _block_of(field.annotation))
    leaf = next(key for key in required if f"{key}.".startswith(f"{path}."))
    return f"`{leaf}` is missing; expected {KEYS[leaf].description}."


def _wrong(place: tuple[str | int, ...], tree: dict[str, object]) -> str:
    while isinstance(place[-1], int):  # an item of a list: the whole list says more
        place = place[:-1]
    value: Any = tree
    for part in place:
        value = value[part]
    path = ".".join(part for part in place if isinstance(part, str))
    text = json.dumps(value, ensure_ascii=False)
    shown = text if len(text) <= 60 else f"{text[:60]}…"
    return f"`{path}` is {shown} ({kind_of(value)}); expected {KEYS[path].description}."
