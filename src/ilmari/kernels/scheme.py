"""Precisions a model can be compiled to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scheme:
    """Number formats of one compiled model.

    weights: dtype of the linear layers and of the head, "float16" or "int8", both with one scale per output channel.
    activation_bits: at least so many bits of a linear layer's inputs are kept; 32 is float32. CPUs without integer dot
    products keep more. The embedding table and the KV cache are float16, norms float32.
    """

    name: str
    weights: str
    activation_bits: int


SCHEMES = {
    scheme.name: scheme
    for scheme in (Scheme("fp16", "float16", 32), Scheme("w8a16", "int8", 16), Scheme("w8a8", "int8", 8))
}
