"""InternLM2's fused query, key and value projection, taken apart."""

import numpy as np
import numpy.typing as npt

from ilmari.model.config import ModelConfig

Float32 = npt.NDArray[np.float32]


def split_wqkv(wqkv: Float32, config: ModelConfig) -> tuple[Float32, Float32, Float32]:
    """De-interleave the fused projection.

    Its rows are `(kv_heads, q_per_kv + 2, head_dim)`: each KV group holds its query heads, then its key, then its
    value. Head h of the result is head h of the model: query heads in order of group and place in the group.

    Args:
        wqkv: float32 [q_size + 2 * kv_size, hidden_size].
        config: the sizes.

    Returns:
        q [q_size, hidden_size], k and v [kv_size, hidden_size], contiguous copies.
    """
    groups = wqkv.reshape(config.num_key_value_heads, config.q_per_kv + 2, config.head_dim, -1)
    return (
        groups[:, :-2].copy().reshape(config.q_size, -1),
        groups[:, -2].copy().reshape(config.kv_size, -1),
        groups[:, -1].copy().reshape(config.kv_size, -1),
    )
