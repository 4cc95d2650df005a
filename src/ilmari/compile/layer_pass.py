"""Calibration samples on their way through a layer in float32: compiled kernels, and BLAS for matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ilmari.artifact.lock import system_errors
from ilmari.engine.batch import Batch, Part, make_batch
from ilmari.engine.kv_cache import KvCache, blocks_for
from ilmari.kernels.attention_tiles import tile_tokens
from ilmari.kernels.compiler import compile_kernels
from ilmari.kernels.isa import isa_named
from ilmari.kernels.library import KernelLibrary, aligned_copy, aligned_zeros, tensor
from ilmari.kernels.plan import Plan
from ilmari.kernels.scheme import SCHEMES
from ilmari.kernels.target import HOST, resolve_target
from ilmari.model.config import ModelConfig
from ilmari.model.rope import inv_freq

ROWS = 2048
"""Tokens that go through a layer at a time: whole samples, at least one."""

KERNELS = ("norm_float32", "silu_float32", "rope_append", "attention_prefill", "attention_decode")

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class FloatLayer:
    """A layer's norms [hidden] and its linear layers [n, k] by name, which may be replaced by what is left of them."""

    attention_norm: Float32
    ffn_norm: Float32
    linears: dict[str, Float32]


@dataclass(frozen=True)
class Piece:
    """Some of the samples: their rows among all tokens, and the arrays that kernels take."""

    rows: slice
    batch: Batch


class LayerPass:
    """Runs pieces of the calibration samples through layers.

    Whatever the artifact's target is, this runs here; keys and values are kept in float16, as in the artifact.
    """

    def __init__(self, config: ModelConfig, samples: Many[NDArray[np.int32]], folder: Path) -> None:
        """Compile the kernels, into `folder` for the moment; samples are token ids, at least one each."""
        target = resolve_target(HOST)
        self.plan = Plan(config, SCHEMES["fp16"], isa_named(target.isa_name))
        path = folder / "kernels.o"
        with system_errors(folder):
            path.write_bytes(compile_kernels(self.plan, target, lambda *_: None, KERNELS))
            library = KernelLibrary(path)
            path.unlink()
        self._norm, self._silu, self._rope_append, self._prefill, self._decode = (library[name] for name in KERNELS)
        self.pieces = list(_pieces(config, samples))
        rows = max(piece.batch.rows for piece in self.pieces)
        blocks = max(piece.batch.table.shape[0] * piece.batch.table.shape[1] for piece in self.pieces)
        self._cache = KvCache(replace(self.plan, config=replace(config, num_hidden_layers=1)), blocks)
        self._hidden = aligned_zeros((rows, config.hidden_size), np.float32)
        self._normed = aligned_zeros((rows, config.hidden_size), np.float32)
        self._qkv = aligned_zeros((rows, self.plan.linears["qkv"].n), np.float32)
        self._q = aligned_zeros((rows, config.q_size), np.float32)
        self._attended = aligned_zeros((rows, config.q_size), np.float32)
        self._gate_up = aligned_zeros((rows, self.plan.linears["gate_up"].n), np.float32)
        self._activated = aligned_zeros((rows, self.plan.intermediate), np.float32)

    def run(self, layer: FloatLayer, hidden: Float32) -> None:
        """Replace `hidden`, [tokens, hidden size] of all samples, by what the layer makes of it."""
        for piece in self.pieces:
            for _ in self.inputs(piece, layer, hidden):
                pass

    def inputs(self, piece: Piece, layer: FloatLayer, hidden: Float32) -> Iterator[tuple[str, Float32]]:
        """Each linear layer's name and its input [rows, k], in order, valid until the next is asked for.

        hidden: [tokens, hidden size] of all samples. Its rows become the layer's output when the iterator ends; one
        that is left early changes nothing.
        """
        batch, rows = piece.batch, piece.batch.rows
        stream, normed, qkv, q = (array[:rows] for array in (self._hidden, self._normed, self._qkv, self._q))
        attended, gate_up, activated = (array[:rows] for array in (self._attended, self._gate_up, self._activated))
        stream[...] = hidden[piece.rows]
        self._norm(tensor(stream), tensor(aligned_copy(layer.attention_norm)), tensor(normed))
        yield "qkv", normed
        _multiply(normed, layer.linears["qkv"], qkv)
        keys, values = self._cache.keys[0], self._cache.values[0]
        self._rope_append(tensor(qkv), batch.cos, batch.sin, batch.slots, tensor(q), keys, values)
        self._attend(batch, q, attended)
        yield "o", attended
        stream += attended @ layer.linears["o"].T
        self._norm(tensor(stream), tensor(aligned_copy(layer.ffn_norm)), tensor(normed))
        yield "gate_up", normed
        _multiply(normed, layer.linears["gate_up"], gate_up)
        self._silu(tensor(gate_up), tensor(activated))
        yield "down", activated
        stream += activated @ layer.linears["down"].T
        hidden[piece.rows] = stream

    def _attend(self, batch: Batch, q: Float32, attended: Float32) -> None:
        inputs = tensor(q), self._cache.keys[0], self._cache.values[0], batch.table
        if work := batch.segments:
            self._decode(*inputs, work.bounds, work.row, work.owner, work.start, work.stop, tensor(attended))
        if tiles := batch.tiles:
            self._prefill(*inputs, tiles.first, tiles.count, tiles.owner, tiles.position, tensor(attended))


def _multiply(x: Float32, weight: Float32, y: Float32) -> None:
    """The first columns of y; kernels want the others, which stay zero."""
    np.matmul(x, weight.T, out=y[:, : len(weight)])


def _pieces(config: ModelConfig, samples: Many[NDArray[np.int32]]) -> Iterator[Piece]:
    start, taken = 0, 0
    for stop in range(1, len(samples) + 1):
        rows = sum(map(len, samples[start:stop]))
        if stop == len(samples) or rows + len(samples[stop]) > ROWS:
            yield Piece(slice(taken, taken + rows), _batch(config, samples[start:stop]))
            start, taken = stop, taken + rows


def _batch(config: ModelConfig, samples: Many[NDArray[np.int32]]) -> Batch:
    """Every sample a sequence of its own, in blocks of the cache that no other has."""
    parts: list[Part] = []
    blocks = 0
    for sample in samples:
        needed = blocks_for(len(sample))
        taken = list(range(blocks, blocks + needed))
        angles = inv_freq(config, len(sample)).tobytes()
        parts.append(Part(sample.tolist(), 0, len(sample), taken, angles, outputs=0))
        blocks += needed
    return make_batch(parts, tile_tokens(config.q_per_kv))
