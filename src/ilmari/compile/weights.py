"""The parameters of an artifact, packed one tensor after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilmari.artifact.quantization import ProjectionErrors, error_ratio
from ilmari.checkpoint.checkpoint import Checkpoint
from ilmari.compile.ahead import in_order
from ilmari.compile.packing import pack, pack_bytes, pad
from ilmari.compile.quantized_layer import ENCODERS, QuantizedLayer, row_energy
from ilmari.errors import CheckpointError
from ilmari.kernels.plan import LinearShape, Plan
from ilmari.quant.bfloat16 import to_bfloat16
from ilmari.quant.weight import ScaledWeight

ROWS_AT_ONCE = 4096
"""Rows of the vocabulary's matrices in memory at a time; a multiple of every register tile."""

FLOAT16_MAX = float(np.finfo(np.float16).max)


def packed_tensors(
    checkpoint: Checkpoint,
    plan: Plan,
    layer: Callable[[int], QuantizedLayer],
    workers: int,
    errors: list[ProjectionErrors],
) -> Iterator[NDArray[Any]]:
    """The content of the parameter file, in its order; a tensor may come in several pieces.

    layer: makes a layer by its index; `workers` of them are made and packed at a time. errors: what int8 projections
    lost is appended as they come, that of the head at the end.

    Raises:
        CheckpointError: a tensor that cannot be read, or that float16 cannot hold.
    """
    for start in range(0, plan.config.vocab_size, ROWS_AT_ONCE):
        rows = checkpoint.embedding_rows(start, start + ROWS_AT_ONCE)
        yield _embedding(rows, checkpoint, plan.scheme.embedding)

    def packed(index: int) -> tuple[list[NDArray[Any]], tuple[ProjectionErrors, ...]]:
        made = layer(index)
        return _layer(plan, made), made.errors

    for tensors, lost in in_order(packed, plan.config.num_hidden_layers, workers):
        yield from tensors
        errors.extend(lost)
    yield checkpoint.final_norm()
    yield from _head(checkpoint, plan, errors)


def _layer(plan: Plan, layer: QuantizedLayer) -> list[NDArray[Any]]:
    return [
        layer.attention_norm,
        *_linear(plan, "qkv", layer),
        *_linear(plan, "o", layer),
        layer.ffn_norm,
        *_linear(plan, "gate_up", layer),
        *_linear(plan, "down", layer),
    ]


def _linear(plan: Plan, name: str, layer: QuantizedLayer) -> list[NDArray[Any]]:
    return _parts(plan, plan.linears[name], layer.linears[name], plan.linears[name].n)


def _head(checkpoint: Checkpoint, plan: Plan, errors: list[ProjectionErrors]) -> Iterator[NDArray[Any]]:
    """The head like any linear layer, but read in pieces, and rounded: its weights first, then what is per channel."""
    shape = plan.linears["head"]
    per_channel: list[list[NDArray[Any]]] = []
    lost = whole = 0.0
    for start in range(0, shape.n, ROWS_AT_ONCE):
        rows = checkpoint.head_rows(start, start + ROWS_AT_ONCE)
        encoded = ENCODERS[plan.scheme.weights](rows)
        if plan.scheme.weights == "int8":
            lost += float(row_energy(rows, encoded).sum())
            whole += float(row_energy(rows).sum())
        weight, *rest = _parts(plan, shape, encoded, min(ROWS_AT_ONCE, shape.n - start))
        yield weight
        per_channel.append(rest)
    for pieces in zip(*per_channel, strict=True):
        yield np.concatenate(pieces)
    if plan.scheme.weights == "int8":
        errors.append(ProjectionErrors(None, "head", error_ratio(lost, whole)))


def _parts(plan: Plan, shape: LinearShape, weight: ScaledWeight, rows: int) -> list[NDArray[Any]]:
    """A weight, padded to [rows, k], as the tensors of `Plan.linear_tensors`."""
    values = pad(weight.values, rows, shape.k)
    packed = pack_bytes(values, shape, plan.isa.byte_offset) if plan.byte_dot else pack(values, shape)
    return [packed, pad(weight.scale, rows)]


def _embedding(rows: NDArray[np.float32], checkpoint: Checkpoint, dtype: str) -> NDArray[Any]:
    if dtype == "bfloat16":
        return to_bfloat16(rows)
    largest = max(rows.max(), -rows.min())
    if largest > FLOAT16_MAX:
        raise CheckpointError(
            f"{checkpoint.path}: the embedding holds {largest:.3g}, which float16, ending at {FLOAT16_MAX:g}, cannot; "
            "the checkpoint is damaged or no InternLM2."
        )
    return rows.astype(np.float16)
