"""The paged KV cache: one array of blocks for all sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ilmari.kernels.kv_layout import BLOCK_SIZE, key_shape, value_shape
from ilmari.kernels.library import aligned_zeros, tensor
from ilmari.kernels.plan import Plan

if TYPE_CHECKING:
    import tvm_ffi


def blocks_for(tokens: int) -> int:
    """Blocks that hold `tokens` tokens."""
    return -(-tokens // BLOCK_SIZE)


class KvCache:
    """Keys and values of every layer, of a rank's KV heads.

    keys[layer] and values[layer] have the shapes of `kernels.kv_layout`, and the dtype that the plan's scheme says.
    """

    def __init__(self, plan: Plan, blocks: int) -> None:
        """Room for `blocks` blocks of 16 tokens; the system provides the memory as it is used."""
        config, dtype = plan.local, plan.scheme.kv_cache
        layers = range(config.num_hidden_layers)
        keys = key_shape(dtype, blocks, config.num_key_value_heads, config.head_dim)
        values = value_shape(dtype, blocks, config.num_key_value_heads, config.head_dim)
        self.keys: tuple[tvm_ffi.Tensor, ...] = tuple(tensor(aligned_zeros(keys, dtype)) for _ in layers)
        self.values: tuple[tvm_ffi.Tensor, ...] = tuple(tensor(aligned_zeros(values, dtype)) for _ in layers)
        self.blocks = blocks
