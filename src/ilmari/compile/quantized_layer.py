"""One transformer layer on its way from the checkpoint to the parameter file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ilmari.artifact.quantization import ProjectionErrors, error_ratio
from ilmari.checkpoint.checkpoint import Checkpoint, LayerWeights
from ilmari.compile.packing import pad
from ilmari.kernels.plan import Plan
from ilmari.quant.bfloat16 import bfloat16
from ilmari.quant.round_to_nearest import round_to_nearest
from ilmari.quant.scaled_half import scaled_half
from ilmari.quant.weight import ScaledWeight

Float32 = NDArray[np.float32]

ENCODERS: dict[str, Callable[[Float32], ScaledWeight]] = {
    "float16": scaled_half,
    "bfloat16": bfloat16,
    "int8": round_to_nearest,
}
"""By dtype of a scheme's weights: what makes them, without calibration."""


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer's norms, float32 [hidden], its linear layers by name, and what int8 ones lost."""

    attention_norm: Float32
    ffn_norm: Float32
    linears: Mapping[str, ScaledWeight]
    errors: tuple[ProjectionErrors, ...] = ()


def matrices(layer: LayerWeights, plan: Plan) -> dict[str, Float32]:
    """The linear layers [n, k] by their names in the plan, which is that of one rank; k, gate and up are padded."""
    hidden, inner = plan.config.hidden_size, plan.intermediate
    return {
        "qkv": np.concatenate([layer.q, layer.k, layer.v]),
        "o": layer.o,
        "gate_up": np.concatenate([pad(layer.gate, inner, hidden), pad(layer.up, inner, hidden)]),
        "down": pad(layer.down, hidden, inner),
    }


def projections(plan: Plan) -> dict[str, dict[str, slice]]:
    """By linear layer: the rows of each of the projections that it is made of."""
    config = plan.config
    keys, values = config.q_size + config.kv_size, config.q_size + 2 * config.kv_size
    return {
        "qkv": {"q": slice(config.q_size), "k": slice(config.q_size, keys), "v": slice(keys, values)},
        "o": {"o": slice(None)},
        "gate_up": {"gate": slice(plan.intermediate), "up": slice(plan.intermediate, None)},
        "down": {"down": slice(None)},
    }


def row_energy(weight: Float32, quantized: ScaledWeight | None = None) -> NDArray[np.float64]:
    """Sums of squares of each row [n]: of `weight`, or of what it lost."""
    lost = weight if quantized is None else weight - quantized.dequantized()
    energy: NDArray[np.float64] = np.square(lost).sum(axis=1, dtype=np.float64)
    return energy


def rounded_layer(checkpoint: Checkpoint, plan: Plan, index: int) -> QuantizedLayer:
    """A layer without calibration: int8 weights rounded to nearest, floats as the checkpoint has them.

    plan: as in `matrices`.

    Raises:
        CheckpointError: a tensor that cannot be read.
    """
    encode = ENCODERS[plan.scheme.weights]
    layer = checkpoint.layer(index)
    linears: dict[str, ScaledWeight] = {}
    errors: list[ProjectionErrors] = []
    for name, weight in matrices(layer, plan).items():
        linears[name] = encode(weight)
        if plan.scheme.weights == "int8":
            lost, whole = row_energy(weight, linears[name]), row_energy(weight)
            for part, rows in projections(plan)[name].items():
                errors.append(ProjectionErrors(index, part, error_ratio(lost[rows].sum(), whole[rows].sum())))
    return QuantizedLayer(layer.attention_norm, layer.ffn_norm, linears, tuple(errors))
