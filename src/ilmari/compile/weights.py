"""The parameters of an artifact, packed one tensor after the other, for each rank."""

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
from ilmari.compile.shard import shard
from ilmari.errors import CheckpointError
from ilmari.kernels.plan import LinearShape, Plan
from ilmari.quant.bfloat16 import to_bfloat16
from ilmari.quant.weight import ScaledWeight

ROWS_AT_ONCE = 4096
"""Rows of the vocabulary's matrices in memory at a time; a multiple of every register tile."""

Piece = tuple[int, NDArray[Any]]
"""A rank, and what comes next in its file."""

FLOAT16_MAX = float(np.finfo(np.float16).max)


def packed_tensors(
    checkpoint: Checkpoint,
    plan: Plan,
    layer: Callable[[int], QuantizedLayer],
    workers: int,
    errors: list[ProjectionErrors],
) -> Iterator[Piece]:
    """The content of each rank's parameter file, in its order; a tensor may come in several pieces.

    layer: makes a whole layer by its index; `workers` of them are made and packed at a time. errors: what int8
    projections lost is appended as they come, that of the head at the end.

    Raises:
        CheckpointError: a tensor that cannot be read, or that float16 cannot hold.
    """
    for rank in range(plan.tp):
        for tokens, size in _pieces(plan.sharding.tokens(rank), plan.local.vocab_size):
            rows = checkpoint.embedding_rows(tokens.start, tokens.stop)
            yield rank, pad(_embedding(rows, checkpoint, plan.scheme.embedding), size, plan.config.hidden_size)

    def packed(index: int) -> tuple[list[Piece], tuple[ProjectionErrors, ...]]:
        made = layer(index)
        return [(rank, tensor) for rank in range(plan.tp) for tensor in _layer(plan, made, rank)], made.errors

    for pieces, lost in in_order(packed, plan.config.num_hidden_layers, workers):
        yield from pieces
        errors.extend(lost)
    for rank in range(plan.tp):
        yield rank, checkpoint.final_norm()
    yield from _head(checkpoint, plan, errors)


def _layer(plan: Plan, layer: QuantizedLayer, rank: int) -> list[NDArray[Any]]:
    def linear(name: str) -> list[NDArray[Any]]:
        return _tensors(plan, plan.linears[name], shard(plan, name, layer.linears[name], rank))

    return [
        layer.attention_norm,
        *linear("qkv"),
        *linear("o"),
        layer.ffn_norm,
        *linear("gate_up"),
        *linear("down"),
    ]


def _head(checkpoint: Checkpoint, plan: Plan, errors: list[ProjectionErrors]) -> Iterator[Piece]:
    """The head like any linear layer, but read in pieces, and rounded: its weights first, then what is per channel."""
    shape = plan.linears["head"]
    lost = whole = 0.0
    for rank in range(plan.tp):
        per_channel: list[list[NDArray[Any]]] = []
        for tokens, size in _pieces(plan.sharding.tokens(rank), shape.n):
            rows = checkpoint.head_rows(tokens.start, tokens.stop)
            encoded = ENCODERS[plan.scheme.weights](rows)
            if plan.scheme.weights == "int8":
                lost += float(row_energy(rows, encoded).sum())
                whole += float(row_energy(rows).sum())
            padded = ScaledWeight(pad(encoded.values, size, shape.k), pad(encoded.scale, size))
            weight, *rest = _tensors(plan, shape, padded)
            yield rank, weight
            per_channel.append(rest)
        for parts in zip(*per_channel, strict=True):
            yield rank, np.concatenate(parts)
    if plan.scheme.weights == "int8":
        errors.append(ProjectionErrors(None, "head", error_ratio(lost, whole)))


def _pieces(tokens: range, size: int) -> Iterator[tuple[range, int]]:
    """Some of a rank's tokens at a time, and to how many rows theirs are padded, `size` in all."""
    for start in range(0, size, ROWS_AT_ONCE):
        yield tokens[start : start + ROWS_AT_ONCE], min(ROWS_AT_ONCE, size - start)


def _tensors(plan: Plan, shape: LinearShape, weight: ScaledWeight) -> list[NDArray[Any]]:
    """A weight, padded, as the tensors of `Plan.linear_tensors`."""
    values = weight.values
    packed = pack_bytes(values, shape, plan.isa.byte_offset) if plan.byte_dot else pack(values, shape)
    return [packed, weight.scale]


def _embedding(rows: NDArray[np.float32], checkpoint: Checkpoint, dtype: str) -> NDArray[Any]:
    if dtype == "bfloat16":
        return to_bfloat16(rows)
    largest = max(rows.max(initial=0), -rows.min(initial=0))
    if largest > FLOAT16_MAX:
        raise CheckpointError(
            f"{checkpoint.path}: the embedding holds {largest:.3g}, which float16, ending at {FLOAT16_MAX:g}, cannot; "
            "the checkpoint is damaged or no InternLM2."
        )
    return rows.astype(np.float16)
