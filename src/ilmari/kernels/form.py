"""Forms of a linear layer's input: how its rows lie in memory, and so which kernels multiply them.

Integer forms have values, corrections (int32, added to the sums of products) and scales (float32). Their rows are made
of runs of two vectors of inputs, and an input of a run's first vector goes with the same lane of the second, so that
whole vectors can be combined. The bytes of a packed weight lie in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

LONGEST_RUN = 32
"""Inputs of a run of the widest vectors; the inputs of a product are padded to whole ones."""

CHUNK = 512
"""Inputs over which products of 16-bit activations and bytes are summed in int32: any more could overflow."""

CLASSES = 4
"""Of the weights' groups of four inputs, each fourth is of the same class; see `linear_pairs`."""

GROUP = 64
"""Inputs that share a scale where activations have eight bits."""


def chunks(k: int) -> int:
    """Chunks of k inputs; the last may be shorter."""
    return -(-k // CHUNK)


def groups(k: int) -> int:
    """Groups of k inputs; the last may be shorter."""
    return -(-k // GROUP)


@dataclass(frozen=True)
class Part:
    """One array of a form: [rows, columns(inputs)] of `dtype`, NumPy's name."""

    dtype: str
    columns: Callable[[int], int]


@dataclass(frozen=True, eq=False)
class Form:
    """What a linear layer reads of each row: arrays, in the order in which kernels take them."""

    name: str
    description: str
    parts: tuple[Part, ...]


FLOAT32 = Form("float32", "float32", (Part("float32", lambda k: k),))

BFLOAT16 = Form("bfloat16", "bfloat16", (Part("uint16", lambda k: k),))
"""By its bits."""

HALVES = Form(
    "halves",
    "16-bit integers, one scale per token",
    (Part("uint16", lambda k: k), Part("int32", chunks), Part("float32", lambda _: 1)),
)
"""Numbers in two signed bytes: of each run the high bytes, then the low ones."""

PAIRS = Form(
    "pairs",
    "16-bit integers, one scale per token",
    (
        Part("int16", lambda k: k + LONGEST_RUN),
        Part("int32", lambda k: chunks(k) * CLASSES),
        Part("float32", lambda _: 1),
    ),
)
"""The same numbers whole. What is left free at the end keeps rows out of each other's cache sets."""

WORDS = Form(
    "words",
    "16-bit integers, one scale per token",
    (Part("int16", lambda k: k + LONGEST_RUN), Part("int32", chunks), Part("float32", lambda _: 1)),
)
"""The same numbers, rows apart as in `pairs`."""

GROUPS = Form(
    "groups",
    f"8-bit integers, one scale per token and {GROUP} inputs",
    (Part("uint16", lambda k: k // 2), Part("int32", groups), Part("float32", groups)),
)
"""Numbers in one signed byte."""

FORMS = {form.name: form for form in (FLOAT32, BFLOAT16, HALVES, PAIRS, WORDS, GROUPS)}
