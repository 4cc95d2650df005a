"""The parameters of a checkpoint, quantized and packed one tensor after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilmari.checkpoint.checkpoint import Checkpoint
from ilmari.compile.packing import pack, pad
from ilmari.errors import CheckpointError
from ilmari.kernels.plan import LinearShape, Plan
from ilmari.quant.round_to_nearest import round_to_nearest

ROWS_AT_ONCE = 4096
"""Rows of the vocabulary's matrices in memory at a time; a multiple of every register tile."""

FLOAT16_MAX = float(np.finfo(np.float16).max)


def packed_tensors(checkpoint: Checkpoint, plan: Plan) -> Iterator[NDArray[Any]]:
    """The content of the parameter file, in its order; a tensor may come in several pieces.

    Raises:
        CheckpointError: a tensor that cannot be read, or that float16 cannot hold.
    """
    config, source = plan.config, checkpoint.path
    for start in range(0, config.vocab_size, ROWS_AT_ONCE):
        rows = checkpoint.embedding_rows(start, start + ROWS_AT_ONCE)
        yield _float16(rows, "embedding", source)
    for index in range(config.num_hidden_layers):
        layer = checkpoint.layer(index)
        gate, up = (pad(part, plan.intermediate, config.hidden_size) for part in (layer.gate, layer.up))
        yield layer.attention_norm
        yield from _linear(plan, "qkv", np.concatenate([layer.q, layer.k, layer.v]), f"layers.{index}", source)
        yield from _linear(plan, "o", layer.o, f"layers.{index}", source)
        yield layer.ffn_norm
        yield from _linear(plan, "gate_up", np.concatenate([gate, up]), f"layers.{index}", source)
        yield from _linear(plan, "down", layer.down, f"layers.{index}", source)
    yield checkpoint.final_norm()
    yield from _head(checkpoint, plan)


def _head(checkpoint: Checkpoint, plan: Plan) -> Iterator[NDArray[Any]]:
    """The head like any linear layer, but read in pieces: its weights first, then what is per channel."""
    shape = plan.linears["head"]
    per_channel: list[list[NDArray[Any]]] = []
    for start in range(0, shape.n, ROWS_AT_ONCE):
        rows = checkpoint.head_rows(start, start + ROWS_AT_ONCE)
        wanted = min(ROWS_AT_ONCE, shape.n - start)
        weight, *rest = _parts(plan, shape, pad(rows, wanted, shape.k), "head", checkpoint.path)
        yield weight
        per_channel.append(rest)
    for pieces in zip(*per_channel, strict=True):
        yield np.concatenate(pieces)


def _linear(plan: Plan, name: str, weight: NDArray[np.float32], owner: str, source: object) -> Iterator[NDArray[Any]]:
    shape = plan.linears[name]
    yield from _parts(plan, shape, pad(weight, shape.n, shape.k), f"{owner}.{name}", source)


def _parts(
    plan: Plan, shape: LinearShape, weight: NDArray[np.float32], name: str, source: object
) -> list[NDArray[Any]]:
    """A padded weight [rows, k] as the tensors of `Plan.linear_tensors`."""
    if plan.scheme.weights == "float16":
        return [pack(_float16(weight, name, source), shape)]
    quantized = round_to_nearest(weight)
    parts: list[NDArray[Any]] = [pack(quantized.values, shape), quantized.scale]
    if plan.byte_dot:
        # The high byte of an activation is stored with 128 added, which this takes back.
        parts.append(128 * quantized.values.sum(axis=1, dtype=np.int32))
    return parts


def _float16(weight: NDArray[np.float32], name: str, source: object) -> NDArray[np.float16]:
    largest = max(weight.max(), -weight.min())
    if largest > FLOAT16_MAX:
        raise CheckpointError(
            f"{source}: {name} holds {largest:.3g}, and float16 ends at {FLOAT16_MAX:g}; compile it with int8 weights."
        )
    return weight.astype(np.float16)
