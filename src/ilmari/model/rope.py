"""Rotary position embedding, with dynamic NTK scaling.

One sequence has one base. It is fixed when the sequence starts, from the length of its prompt, and holds for every
key that the sequence ever caches: keys written under one base must not meet queries under another, so the base
neither grows while a sequence is generated nor leaks into the next sequence.
"""

import numpy as np
import numpy.typing as npt

from ilmari.model.config import ModelConfig

Float32 = npt.NDArray[np.float32]


def rope_base(config: ModelConfig, prompt_len: int) -> float:
    """The rotary base of a sequence whose prompt has `prompt_len` tokens.

    At or below `max_position_embeddings`, or without `rope_scaling`, it is `rope_theta`. Above it, with d = head_dim,
    dynamic NTK gives `theta * ((factor * prompt_len / max_position) - (factor - 1)) ** (d / (d - 2))`.
    Source: `InternLM2DynamicNTKScalingRotaryEmbedding` of the InternLM2 release.
    """
    limit, scaling = config.max_position_embeddings, config.rope_scaling
    if scaling is None or prompt_len <= limit:
        return config.rope_theta
    stretch = scaling.factor * prompt_len / limit - (scaling.factor - 1)
    return float(config.rope_theta * stretch ** (config.head_dim / (config.head_dim - 2)))


def inv_freq(config: ModelConfig, prompt_len: int) -> Float32:
    """Rotation per position, in radians, of each pair of a head: `base ** (-2i / head_dim)`.

    Args:
        config: the model.
        prompt_len: tokens in the prompt that starts the sequence.

    Returns:
        float32 [head_dim / 2], computed in float64 and rounded once.
    """
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim
    return (rope_base(config, prompt_len) ** -exponents).astype(np.float32)


def cos_sin(positions: npt.NDArray[np.integer], inv_freq: Float32) -> tuple[Float32, Float32]:
    """Cosine and sine of every position's angles, for the rotate-half (NeoX) form.

    The angle is the product `position * inv_freq` rounded to float32, because the models were trained with angles so
    rounded: at position 32,000 that rounding moves an angle by up to 0.001 radians, and a more exact angle would be
    further from the reference. Cosine and sine of that angle are then exact to float32: they are taken in float64,
    so that they do not depend on the SIMD library of the machine.

    Args:
        positions: integers [n], below 2**24 so that float32 holds them exactly.
        inv_freq: float32 [head_dim / 2].

    Returns:
        (cos, sin), both float32 [n, head_dim / 2].
    """
    angles = (positions.astype(np.float32)[:, None] * inv_freq).astype(np.float64)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
