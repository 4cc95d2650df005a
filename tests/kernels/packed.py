"""CPUs, the shapes of a small model, and weights and activations laid out by the definition of their layout."""

from dataclasses import replace

import ml_dtypes
import numpy as np

from ilmari.kernels.isa import Isa
from ilmari.kernels.plan import LinearShape, Plan
from ilmari.kernels.scheme import SCHEMES
from ilmari.model.config import ModelConfig

CPUS = {"avx512-bf16": "znver4", "avx512-vnni": "cascadelake", "avx2": "haswell", "generic": "x86-64"}
"""A CPU that gets each instruction set."""

CONFIG = ModelConfig(
    architecture="test",
    hidden_size=80,
    intermediate_size=100,
    num_hidden_layers=1,
    num_attention_heads=3,
    num_key_value_heads=1,
    head_dim=64,
    vocab_size=1003,
    max_position_embeddings=128,
    rms_norm_eps=1e-5,
    rope_theta=1e4,
    rope_scaling=None,
    bos_token_id=1,
    eos_token_id=2,
)


def linear_shape(isa: Isa, scheme: str, name: str, hidden: int) -> LinearShape:
    """The layer `name` of the small model with another hidden size, padded as a plan pads it."""
    return Plan(replace(CONFIG, hidden_size=hidden), SCHEMES[scheme], isa).linears[name]


def packed_weight(weight: np.ndarray, shape: LinearShape) -> np.ndarray:
    """[n, k] to [n/block, k/k_step, block*k_step]: number by number."""
    packed = np.zeros(shape.packed, weight.dtype)
    n, k = np.indices(weight.shape)
    packed[n // shape.block, k // shape.k_step, n % shape.block * shape.k_step + k % shape.k_step] = weight
    return packed


def bfloat16_bits(array: np.ndarray) -> np.ndarray:
    """The bits of numbers rounded to bfloat16, by another library's arithmetic than ours."""
    return array.astype(ml_dtypes.bfloat16).view(np.uint16)


def packed_rows(x: np.ndarray) -> np.ndarray:
    """Signed 16-bit integers [m, k] to [m, k/16, 2, 16]: high bytes and low bytes of x + 32768, number by number."""
    packed = np.zeros((x.shape[0], x.shape[1] // 16, 2, 16), np.uint8)
    m, k = np.indices(x.shape)
    packed[m, k // 16, 0, k % 16] = (x + 32768) // 256
    packed[m, k // 16, 1, k % 16] = (x + 32768) % 256
    return packed
