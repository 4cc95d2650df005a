"""Precisions a model can be compiled to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scheme:
    """Number formats of one compiled model.

    weights: dtype of the linear layers and of the head, "float16" or "int8", both with one scale per output channel.
    The embedding table and the KV cache are float16, norms float32.
    """

    name: str
    weights: str


SCHEMES = {scheme.name: scheme for scheme in (Scheme("fp16", "float16"), Scheme("w8a16", "int8"))}
