"""One step's work as the arrays that kernels take."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ilmari.engine.sequence import Sequence
from ilmari.kernels.kv_layout import BLOCK_SIZE
from ilmari.kernels.library import aligned_copy, tensor
from ilmari.model.rope import cos_sin

if TYPE_CHECKING:
    import tvm_ffi


@dataclass(frozen=True)
class Work:
    """The next `count` tokens of a sequence; `outputs`: for how many of them, the last ones, logits are wanted."""

    sequence: Sequence
    count: int
    outputs: int


@dataclass(frozen=True)
class Tiles:
    """Runs of rows for the attention kernel, int32 [tiles] each: first row, rows, sequence, position of the first."""

    first: tvm_ffi.Tensor
    count: tvm_ffi.Tensor
    owner: tvm_ffi.Tensor
    position: tvm_ffi.Tensor


@dataclass(frozen=True)
class Batch:
    """The rows of one step: the tokens of all its work, one sequence after the other.

    token_ids, slots: int32 [rows]; cos, sin: float32 [rows, head_dim/2]; table: int32 [sequences, blocks].
    outputs: the rows whose logits are wanted, and output_tiles the attention over those alone.
    """

    rows: int
    single: bool
    token_ids: tvm_ffi.Tensor
    slots: tvm_ffi.Tensor
    cos: tvm_ffi.Tensor
    sin: tvm_ffi.Tensor
    table: tvm_ffi.Tensor
    tiles: Tiles
    outputs: NDArray[np.intp]
    output_tiles: Tiles


def make_batch(work: Many[Work], tile_tokens: int) -> Batch:
    """Arrange the work; a prefill tile covers up to `tile_tokens` rows of one sequence."""
    counts = np.array([item.count for item in work])
    single = bool((counts == 1).all())
    owners = np.repeat(np.arange(len(work)), counts)
    starts = np.cumsum(counts) - counts
    computed = np.array([item.sequence.computed for item in work])
    positions = np.arange(counts.sum()) - starts[owners] + computed[owners]

    table = np.zeros((len(work), max(len(item.sequence.blocks) for item in work)), np.int32)
    for row, item in enumerate(work):
        table[row, : len(item.sequence.blocks)] = item.sequence.blocks
    slots = table[owners, positions // BLOCK_SIZE] * BLOCK_SIZE + positions % BLOCK_SIZE
    token_ids = np.concatenate(
        [item.sequence.tokens[item.sequence.computed : item.sequence.computed + item.count] for item in work]
    )
    angles = [
        cos_sin(positions[start : start + item.count], item.sequence.inv_freq)
        for start, item in zip(starts, work, strict=True)
    ]
    step = 1 if single else tile_tokens
    first = np.concatenate([np.arange(start, start + count, step) for start, count in zip(starts, counts, strict=True)])
    ends = (starts + counts)[owners[first]]
    outputs = np.concatenate(
        [
            np.arange(start + item.count - item.outputs, start + item.count)
            for start, item in zip(starts, work, strict=True)
        ]
    )
    return Batch(
        rows=len(token_ids),
        single=single,
        token_ids=_tensor(token_ids),
        slots=_tensor(slots),
        cos=tensor(aligned_copy(np.concatenate([cos for cos, _ in angles]))),
        sin=tensor(aligned_copy(np.concatenate([sin for _, sin in angles]))),
        table=_tensor(table),
        tiles=Tiles(
            _tensor(first), _tensor(np.minimum(step, ends - first)), _tensor(owners[first]), _tensor(positions[first])
        ),
        outputs=outputs,
        output_tiles=Tiles(
            _tensor(np.arange(len(outputs))),
            _tensor(np.ones(len(outputs))),
            _tensor(owners[outputs]),
            _tensor(positions[outputs]),
        ),
    )


def _tensor(array: NDArray[np.generic]) -> tvm_ffi.Tensor:
    return tensor(aligned_copy(array.astype(np.int32)))
