"""The paged KV cache: one array of blocks for all sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ilmari.artifact.manifest import Manifest
from ilmari.artifact.params import params_bytes
from ilmari.engine.memory import available_bytes
from ilmari.kernels.kv_layout import BLOCK_SIZE, key_shape, value_shape
from ilmari.kernels.library import aligned_zeros, tensor
from ilmari.kernels.plan import Plan

if TYPE_CHECKING:
    import tvm_ffi


SHARE_OF_MEMORY = 0.5
"""Of what is available beside the weights, for the KV caches of a machine by default."""

PAGE = 4096
"""Bytes: a system's pages are no smaller."""


def blocks_for(tokens: int) -> int:
    """Blocks that hold `tokens` tokens."""
    return -(-tokens // BLOCK_SIZE)


def bytes_for(manifest: Manifest, tokens: int) -> int:
    """Bytes of a rank's cache that hold `tokens` tokens of one sequence."""
    return blocks_for(tokens) * BLOCK_SIZE * manifest.plan.kv_bytes_per_token


def _room(plan: Plan, ranks_here: int) -> int | None:
    """Bytes of memory for the cache of one of `ranks_here` ranks, beside their weights; None: unknown.

    Weights are mapped from files, and pages of files count as available: a cache that took them would have every step
    read the weights from the disk again.
    """
    available = available_bytes()
    return None if available is None else max(0, available // ranks_here - params_bytes(plan))


def cache_blocks(manifest: Manifest, max_num_seqs: int, memory_bytes: int | None, ranks_here: int) -> int:
    """How many blocks a rank has room for in `memory_bytes`; None: what so many sequences need at full length, at most
    half of the memory that is there for it as one of `ranks_here` on this machine."""
    block_bytes = bytes_for(manifest, 1)
    if memory_bytes is not None:
        return memory_bytes // block_bytes
    one = blocks_for(manifest.max_seq_len)
    room = _room(manifest.plan, ranks_here)
    if room is None:
        return max_num_seqs * one
    # One sequence must fit in any case: few reach their full length.
    return max(one, min(max_num_seqs * one, int(room * SHARE_OF_MEMORY) // block_bytes))


class KvCache:
    """Keys and values of every layer, of a rank's KV heads.

    keys[layer] and values[layer] have the shapes of `kernels.kv_layout`, and the dtype that the plan's scheme says.
    """

    def __init__(self, plan: Plan, blocks: int) -> None:
        """Room for `blocks` blocks of 16 tokens; the system provides the memory as it is used, see `occupy`."""
        config, dtype = plan.local, plan.scheme.kv_cache
        layers = range(config.num_hidden_layers)
        key = key_shape(dtype, blocks, config.num_key_value_heads, config.head_dim)
        value = value_shape(dtype, blocks, config.num_key_value_heads, config.head_dim)
        keys, values = ([aligned_zeros(shape, dtype) for _ in layers] for shape in (key, value))
        self._plan = plan
        self._arrays = keys + values
        self.keys: tuple[tvm_ffi.Tensor, ...] = tuple(map(tensor, keys))
        self.values: tuple[tvm_ffi.Tensor, ...] = tuple(map(tensor, values))
        self.blocks = blocks

    def occupy(self, ranks_here: int) -> None:
        """Have the system provide the memory now, while the cache is empty, for as many blocks as there is room for.

        Blocks are used from the first on and lie alike in every array. So the step that first writes to a page of 2 MiB
        does so in every layer: 10 ms where the machine has that memory, and 200 where a hypervisor has to find it.

        ranks_here: of this machine, as `cache_blocks` takes it.
        """
        room = _room(self._plan, ranks_here)
        size = sum(array.nbytes for array in self._arrays)
        share = 1.0 if room is None else min(1.0, room / max(1, size))
        for array in self._arrays:
            array[: int(len(array) * share)].reshape(-1).view(np.uint8)[::PAGE] = 0
