"""Precisions a model can be compiled to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scheme:
    """Number formats of one compiled model.

    weights: dtype of the linear layers and of the head, "float16", "bfloat16" or "int8", all with one scale per output
    channel. activation_bits: at least so many bits of an int8 layer's inputs are kept; CPUs without integer dot
    products keep more. embedding: dtype of the embedding table. kv_cache: that of cached keys and values,
    "float16", or "int8" with a scale for each token and head. Norms are float32.
    """

    name: str
    weights: str
    activation_bits: int
    embedding: str = "float16"
    kv_cache: str = "float16"


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("fp16", "float16", 32),
        Scheme("bf16", "bfloat16", 32, "bfloat16"),
        Scheme("w8a16", "int8", 16),
        Scheme("w8a8", "int8", 8),
        Scheme("w16kv8", "float16", 32, kv_cache="int8"),
        Scheme("w8a16_kv8", "int8", 16, kv_cache="int8"),
        Scheme("w8a8_kv8", "int8", 8, kv_cache="int8"),
    )
}


def storage(dtype: str) -> str:
    """The dtype, of NumPy and in kernels, of arrays that hold `dtype`: both know bfloat16 only by its bits."""
    return "uint16" if dtype == "bfloat16" else dtype
