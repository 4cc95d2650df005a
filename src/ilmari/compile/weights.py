"""The parameters of a checkpoint, quantized and packed one tensor after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilmari.checkpoint.checkpoint import Checkpoint
from ilmari.compile.packing import pack, pack_bytes, pad
from ilmari.errors import CheckpointError
from ilmari.kernels.plan import LinearShape, Plan
from ilmari.quant.bfloat16 import bfloat16, to_bfloat16
from ilmari.quant.round_to_nearest import round_to_nearest
from ilmari.quant.scaled_half import scaled_half
from ilmari.quant.weight import ScaledWeight

ROWS_AT_ONCE = 4096
"""Rows of the vocabulary's matrices in memory at a time; a multiple of every register tile."""

ENCODERS: dict[str, Callable[[NDArray[np.float32]], ScaledWeight]] = {
    "float16": scaled_half,
    "bfloat16": bfloat16,
    "int8": round_to_nearest,
}

FLOAT16_MAX = float(np.finfo(np.float16).max)


def packed_tensors(checkpoint: Checkpoint, plan: Plan) -> Iterator[NDArray[Any]]:
    """The content of the parameter file, in its order; a tensor may come in several pieces.

    Raises:
        CheckpointError: a tensor that cannot be read, or that float16 cannot hold.
    """
    config = plan.config
    for start in range(0, config.vocab_size, ROWS_AT_ONCE):
        rows = checkpoint.embedding_rows(start, start + ROWS_AT_ONCE)
        yield _embedding(rows, checkpoint, plan.scheme.embedding)
    for index in range(config.num_hidden_layers):
        layer = checkpoint.layer(index)
        gate, up = (pad(part, plan.intermediate, config.hidden_size) for part in (layer.gate, layer.up))
        yield layer.attention_norm
        yield from _linear(plan, "qkv", np.concatenate([layer.q, layer.k, layer.v]))
        yield from _linear(plan, "o", layer.o)
        yield layer.ffn_norm
        yield from _linear(plan, "gate_up", np.concatenate([gate, up]))
        yield from _linear(plan, "down", layer.down)
    yield checkpoint.final_norm()
    yield from _head(checkpoint, plan)


def _head(checkpoint: Checkpoint, plan: Plan) -> Iterator[NDArray[Any]]:
    """The head like any linear layer, but read in pieces: its weights first, then what is per channel."""
    shape = plan.linears["head"]
    per_channel: list[list[NDArray[Any]]] = []
    for start in range(0, shape.n, ROWS_AT_ONCE):
        rows = checkpoint.head_rows(start, start + ROWS_AT_ONCE)
        wanted = min(ROWS_AT_ONCE, shape.n - start)
        weight, *rest = _parts(plan, shape, pad(rows, wanted, shape.k))
        yield weight
        per_channel.append(rest)
    for pieces in zip(*per_channel, strict=True):
        yield np.concatenate(pieces)


def _linear(plan: Plan, name: str, weight: NDArray[np.float32]) -> Iterator[NDArray[Any]]:
    shape = plan.linears[name]
    yield from _parts(plan, shape, pad(weight, shape.n, shape.k))


def _parts(plan: Plan, shape: LinearShape, weight: NDArray[np.float32]) -> list[NDArray[Any]]:
    """A padded weight [rows, k] as the tensors of `Plan.linear_tensors`."""
    encoded = ENCODERS[plan.scheme.weights](weight)
    packed = pack_bytes(encoded.values, shape, plan.isa.byte_offset) if plan.byte_dot else pack(encoded.values, shape)
    return [packed, encoded.scale]


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
