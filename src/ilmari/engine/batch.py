"""One step's work as the arrays that kernels take."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from ilmari.engine.candidates import ALL, deciding
from ilmari.engine.sequence import Sequence
from ilmari.kernels.attention_tiles import SEGMENT
from ilmari.kernels.kv_layout import BLOCK_SIZE
from ilmari.kernels.library import aligned_copy, tensor
from ilmari.model.rope import cos_sin

if TYPE_CHECKING:
    import tvm_ffi


@dataclass(frozen=True)
class Work:
    """The next `count` tokens of a sequence, and after them `drafts`, tokens that may follow.

    outputs: for how many of them, the last ones, logits are wanted.
    """

    sequence: Sequence
    count: int
    outputs: int
    drafts: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """Tokens to compute."""
        return self.count + len(self.drafts)

    @property
    def is_reply(self) -> bool:
        """Whether it is the last known token of a sequence, alone or with drafts."""
        return self.count == 1 and self.outputs > 0

    @property
    def token_ids(self) -> list[int]:
        """The tokens to compute."""
        start = self.sequence.computed
        return [*self.sequence.tokens[start : start + self.count], *self.drafts]

    @property
    def part(self) -> Part:
        """What the model is to know of it."""
        sequence = self.sequence
        return Part(
            self.token_ids,
            sequence.computed,
            sequence.prompt_len,
            sequence.blocks,
            sequence.inv_freq.tobytes(),
            self.outputs,
            deciding(sequence.params),
        )


class Part(msgspec.Struct, frozen=True, array_like=True):
    """A sequence's tokens in a step: plain data, for every rank.

    computed: how many of its tokens are in the KV cache, in `blocks`, before these; prompt_len: how many it began with;
    inv_freq: float32, as bytes. Logits are wanted for the last `outputs` tokens, or of each as many of the best as
    `deciding` says, see `candidates`.
    """

    token_ids: list[int]
    computed: int
    prompt_len: int
    blocks: list[int]
    inv_freq: bytes
    outputs: int
    deciding: int = ALL

    @property
    def rows(self) -> int:
        """Tokens to compute."""
        return len(self.token_ids)


@dataclass(frozen=True)
class Tiles:
    """Runs of rows for `attention_prefill`, int32 [tiles] each: first row, rows, sequence, position of the first."""

    first: tvm_ffi.Tensor
    count: tvm_ffi.Tensor
    owner: tvm_ffi.Tensor
    position: tvm_ffi.Tensor


@dataclass(frozen=True)
class Segments:
    """Runs of keys for `attention_decode`: int32 [tokens + 1] bounds of each token's segments; int32 [segments] each:
    the token's row, its sequence, the first key and the key after the last."""

    bounds: tvm_ffi.Tensor
    row: tvm_ffi.Tensor
    owner: tvm_ffi.Tensor
    start: tvm_ffi.Tensor
    stop: tvm_ffi.Tensor


@dataclass(frozen=True)
class Batch:
    """The rows of one step: the tokens of all its work, one sequence after the other.

    token_ids, slots: int32 [rows]; cos, sin: float32 [rows, head_dim/2]; table: int32 [sequences, blocks].
    tiles: the attention of tokens of prompts; segments: that of generated ones and of drafts.
    outputs: the rows whose logits are wanted, and output_segments the attention of those alone; deciding, integers
    [outputs]: how many of the best tokens are enough of each, see `candidates`.
    """

    rows: int
    token_ids: tvm_ffi.Tensor
    slots: tvm_ffi.Tensor
    cos: tvm_ffi.Tensor
    sin: tvm_ffi.Tensor
    table: tvm_ffi.Tensor
    segments: Segments | None
    tiles: Tiles | None
    outputs: NDArray[np.intp]
    output_segments: Segments | None
    deciding: NDArray[np.intp]


def make_batch(parts: Many[Part], tile_tokens: int) -> Batch:
    """Arrange the parts; a prefill tile covers up to `tile_tokens` rows of one sequence."""
    counts = np.array([part.rows for part in parts])
    owners = np.repeat(np.arange(len(parts)), counts)
    starts = np.cumsum(counts) - counts
    computed = np.array([part.computed for part in parts])
    positions = np.arange(counts.sum()) - starts[owners] + computed[owners]
    # Whatever else is in the step, and whether for the first time or again: a token's attention is always computed by
    # the same kernel, so its keys and values have always the same bits.
    prompts = np.clip(np.array([part.prompt_len for part in parts]) - computed, 0, counts)
    generated = np.flatnonzero(positions >= (computed + prompts)[owners])

    table = np.zeros((len(parts), max(len(part.blocks) for part in parts)), np.int32)
    for row, part in enumerate(parts):
        table[row, : len(part.blocks)] = part.blocks
    slots = table[owners, positions // BLOCK_SIZE] * BLOCK_SIZE + positions % BLOCK_SIZE
    token_ids = np.concatenate([part.token_ids for part in parts])
    angles = [
        cos_sin(positions[start : start + part.rows], np.frombuffer(part.inv_freq, np.float32))
        for start, part in zip(starts, parts, strict=True)
    ]
    outputs = np.concatenate(
        [
            np.arange(start + part.rows - part.outputs, start + part.rows)
            for start, part in zip(starts, parts, strict=True)
        ]
    )
    return Batch(
        rows=len(token_ids),
        token_ids=_tensor(token_ids),
        slots=_tensor(slots),
        cos=tensor(aligned_copy(np.concatenate([cos for cos, _ in angles]))),
        sin=tensor(aligned_copy(np.concatenate([sin for _, sin in angles]))),
        table=_tensor(table),
        segments=_segments(generated, owners[generated], positions[generated]),
        tiles=_tiles(starts, prompts, computed, tile_tokens),
        outputs=outputs,
        output_segments=_segments(np.arange(len(outputs)), owners[outputs], positions[outputs]),
        deciding=np.repeat([part.deciding for part in parts], [part.outputs for part in parts]),
    )


def _segments(rows: NDArray[np.intp], owners: NDArray[np.intp], positions: NDArray[np.intp]) -> Segments | None:
    """Each token's context in segments of equal length, the last one shorter."""
    if not len(rows):
        return None
    counts = positions // SEGMENT + 1
    bounds = np.concatenate([[0], np.cumsum(counts)])
    token = np.repeat(np.arange(len(rows)), counts)
    start = (np.arange(len(token)) - bounds[token]) * SEGMENT
    stop = np.minimum(start + SEGMENT, positions[token] + 1)
    return Segments(*map(_tensor, (bounds, rows[token], owners[token], start, stop)))


def _tiles(
    starts: NDArray[np.intp], counts: NDArray[np.intp], computed: NDArray[np.intp], tile_tokens: int
) -> Tiles | None:
    """The first `counts` rows of each sequence, in tiles ordered by the keys they see."""
    tiles = [
        (start + offset, min(tile_tokens, count - offset), owner, position + offset)
        for owner, (start, count, position) in enumerate(zip(starts, counts, computed, strict=True))
        for offset in range(0, count, tile_tokens)
    ]
    if not tiles:
        return None
    tiles.sort(key=lambda tile: tile[1] + tile[3])
    return Tiles(*map(_tensor, np.array(tiles).T))


def _tensor(array: NDArray[np.generic]) -> tvm_ffi.Tensor:
    return tensor(aligned_copy(array.astype(np.int32)))
