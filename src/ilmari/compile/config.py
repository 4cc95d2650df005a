"""From the vendor's YAML to what one compilation needs: parse the recipe, then resolve it or refuse it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ilmari.compile.calibration import calibration_of
from ilmari.compile.override import apply_override, parse_override
from ilmari.compile.schema import VendorConfig, given_keys, validate
from ilmari.compile.yaml_reader import read_yaml
from ilmari.datasets.calibration import Calibration
from ilmari.errors import ConfigError

LENGTH_STEP = 16
"""Prompt and sequence limits are multiples of this many tokens."""


@dataclass(frozen=True)
class Recipe:
    """A YAML file whose keys are all known and typed; `resolve` says whether it can be compiled."""

    source: Path
    keys: VendorConfig


@dataclass(frozen=True)
class Gptq:
    """How GPTQ is to run, by AutoGPTQ's names.

    damp_percent: what is added to the diagonal of X^T X, as a fraction of its mean. act_order: the inputs with the
    largest activations are rounded first, which costs nothing where a channel has one scale. true_sequential: within a
    layer, too, each projection meets inputs that come from quantized ones.
    """

    damp_percent: float = 0.01
    act_order: bool = True
    true_sequential: bool = False


@dataclass(frozen=True)
class CompileConfig:
    """What one compilation needs.

    `max_prompt_len` and `max_seq_len` are in tokens; `scheme` is one of `kernels.scheme.SCHEMES`; `output` is the
    artifact's folder; `notices` are sentences for the user, such as about keys that have no effect; `gptq` is None
    where weights are rounded to nearest or stay floats; `calibration` is the data set that the file names, if it names
    one; `throughput` is how the artifact is to be served; `workers` layers are rounded and packed at a time; `tp` ranks
    share the model, and where they do not divide its KV heads, `align_qkv` has to allow copies and zeros. Relative
    paths are relative to the current folder.
    """

    source: Path
    name: str
    checkpoint: Path
    max_prompt_len: int
    max_seq_len: int
    scheme: str
    output: Path
    notices: tuple[str, ...]
    gptq: Gptq | None = None
    calibration: Calibration | None = None
    throughput: bool = False
    workers: int = 1
    tp: int = 1
    align_qkv: bool = False


_DTYPES = {
    "fp16": ("fp16",),
    "bf16": ("bf16",),
    "w8a16": ("int8",),
    "w8a8": ("int8",),
    "w8a16_kv8": ("int8",),
    "w8a8_kv8": ("int8",),
    "w16kv8": ("fp16", "int8"),  # the vendor's file says int8, of the cache
}
"""By scheme: the values of `backend.dtype` that it goes with."""

_CALIBRATED = "_gptq"  # in the name of a scheme: its weights are calibrated
_SCHEME_OF_DTYPE = {"fp16": "fp16", "bf16": "bf16", "int8": "w8a16"}
_WITH_ACTIVATION = {
    (f"w8{old}{cache}", new): f"w8{new}{cache}"
    for old in ("a16", "a8")
    for new in ("a16", "a8")
    for cache in ("", "_kv8")
}

_NO_EFFECT = {
    "frontend.model_kwargs.model_arch": "models are built in, no code or config_vacc.json of the checkpoint is used",
    "frontend.quantize.device": "quantization runs on the CPU",
    "backend.type": "there is no VACC silicon in the open, so this compiles for the CPU",
    "backend.merge_params": "the layout of an artifact's parameter files is fixed",
    "backend.compile.data_type": "it is a switch of the vendor's compiler without a counterpart here",
    "backend.compile.gather_data_vccl_dsp_enable": "it saves memory in the vendor's compiler, which is not used here",
}
_NO_EFFECT_UNCALIBRATED = {
    "frontend.quantize.calib_args": "rounding to nearest needs no calibration",
    "dataset": "rounding to nearest needs no calibration data, nor do 16-bit floats",
}
_OWN_TEXT = "No `dataset` is given: the model itself writes the text that GPTQ calibrates on, 32 samples of 256 tokens."


def load_config(path: Path, overrides: Sequence[str] = (), activation: str | None = None) -> CompileConfig:
    """Read a vendor YAML file, change it by `KEY=VALUE` overrides, and resolve it.

    Raises:
        ConfigError: as `parse_recipe` and `resolve`.
    """
    return resolve(parse_recipe(path, overrides), activation)


def parse_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and type every key of a vendor YAML file, whether or not it can be compiled here.

    Args:
        path: the YAML file.
        overrides: `a.b.c=VALUE`, applied in order; see `parse_override`.

    Raises:
        ConfigError: the file or an override is malformed, or a key is unknown, missing or of a wrong type.
    """
    changes = [parse_override(text) for text in overrides]
    tree = read_yaml(path)
    for change in changes:
        apply_override(tree, change)

    def origin(key: str) -> str:
        return next((change.origin for change in reversed(changes) if change.touches(key)), str(path))

    return Recipe(path, validate(tree, origin))


def resolve(recipe: Recipe, activation: str | None = None) -> CompileConfig:
    """Turn a recipe into a compilation; `activation`, "a16" or "a8", replaces what its scheme says.

    Raises:
        ConfigError: lengths that do not fit, or keys that contradict each other.
    """
    keys, source = recipe.keys, recipe.source
    prompt, sequence = _lengths(recipe)
    calibration = calibration_of(keys.dataset, source)
    scheme, calibrated = _scheme(recipe)
    if activation is not None:
        scheme = _with_activation(recipe, scheme, activation)
    return CompileConfig(
        source=source,
        name=keys.name,
        checkpoint=Path(keys.frontend.checkpoint),
        max_prompt_len=prompt,
        max_seq_len=sequence,
        scheme=scheme,
        output=Path(keys.workspace.path) / keys.name,
        throughput=bool(keys.frontend.model_kwargs.b2s),
        workers=keys.workspace.workers or 1,
        tp=keys.frontend.model_kwargs.tp,
        align_qkv=bool(keys.frontend.model_kwargs.align_qkv),
        notices=_notices(keys, calibrated, calibration),
        gptq=_gptq(keys) if calibrated else None,
        calibration=calibration,
    )


def _gptq(keys: VendorConfig) -> Gptq:
    args = keys.frontend.quantize.calib_args if keys.frontend.quantize else None
    given = args.model_dump(exclude_none=True) if args else {}
    return Gptq(**given)


def _notices(keys: VendorConfig, calibrated: bool, calibration: Calibration | None) -> tuple[str, ...]:
    given = [f"{key}." for key in given_keys(keys)]
    reasons = _NO_EFFECT if calibrated else _NO_EFFECT | _NO_EFFECT_UNCALIBRATED
    unused = tuple(
        f"`{key}` has no effect: {why}."
        for key, why in reasons.items()
        if any(path.startswith(f"{key}.") for path in given)
    )
    return (*unused, _OWN_TEXT) if calibrated and calibration is None else unused


def _lengths(recipe: Recipe) -> tuple[int, int]:
    (prompt,), (sequence,) = recipe.keys.frontend.shape.input_ids
    good_sequence = _nearest_length(sequence)
    good_prompt = min(_nearest_length(prompt), good_sequence)
    if (prompt, sequence) != (good_prompt, good_sequence):
        raise ConfigError(
            f"{recipe.source}: `frontend.shape.input_ids` is [[{prompt}], [{sequence}]]; expected [[longest prompt], "
            f"[longest sequence]], positive multiples of {LENGTH_STEP} with the prompt not longer than the sequence, "
            f"such as [[{good_prompt}], [{good_sequence}]]."
        )
    return prompt, sequence


def _nearest_length(length: int) -> int:
    return max(LENGTH_STEP, (length + LENGTH_STEP // 2) // LENGTH_STEP * LENGTH_STEP)


def _scheme(recipe: Recipe) -> tuple[str, bool]:
    """The scheme, and whether its weights are to be calibrated."""
    dtype, quantize = recipe.keys.backend.dtype, recipe.keys.frontend.quantize
    if quantize is None or quantize.type is None:
        return _SCHEME_OF_DTYPE[dtype], False
    scheme = quantize.type.replace(_CALIBRATED, "")
    dtypes = _DTYPES[scheme]
    if dtype not in dtypes:
        needed = dtypes[0]
        raise ConfigError(
            f"{recipe.source}: `backend.dtype` is {dtype} but `frontend.quantize.type` is {quantize.type}, which goes "
            f"with {needed}; set `backend.dtype: {needed}`, or remove `frontend.quantize`."
        )
    return scheme, scheme != quantize.type


def _with_activation(recipe: Recipe, scheme: str, activation: str) -> str:
    try:
        return _WITH_ACTIVATION[scheme, activation]
    except KeyError:
        raise ConfigError(
            f"{recipe.source}: asks for {scheme}, and --activation {activation} goes with int8 weights; leave "
            "--activation out, or set `backend.dtype: int8`."
        ) from None
