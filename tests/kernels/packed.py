"""CPUs, the shapes of a small model, and weights and activations laid out by the definition of their layout."""

from dataclasses import replace

import ml_dtypes
import numpy as np
from small_model import SMALL

from ilmari.kernels.form import CHUNK, CLASSES, GROUP, HALVES, PAIRS, WORDS, Form
from ilmari.kernels.isa import ISAS, Isa
from ilmari.kernels.plan import LinearShape, Plan, padded
from ilmari.kernels.scheme import SCHEMES

CPUS = {
    "avx512-zen5": "znver5",
    "avx512-amd": "znver4",
    "avx512-bf16": "cooperlake",
    "avx512-vnni": "cascadelake",
    "avx-vnni": "alderlake",
    "avx2": "haswell",
    "neon-i8mm": "neoverse-n2",
    "neon-dotprod": "neoverse-n1",
    "generic": "x86-64",
}
"""A CPU that gets each instruction set."""

ROWS = (1, 2, 3, 4, 5, 7, 8, 9, 13, 64)
"""Every remainder of every register tile, and both sides of `PARALLEL_ROWS`."""


def _forms(isa: Isa) -> list[Form]:
    """Integer forms that the plans of an instruction set use."""
    plans = [Plan(SMALL, scheme, isa) for scheme in SCHEMES.values() if scheme.weights == "int8"]
    return list({form.name: form for plan in plans if plan.byte_dot for _, form in plan.forms}.values())


INTEGER_ISAS = tuple(
    {
        (isa.lanes, isa.byte_dot is None, isa.traded, isa.dot_rows, isa.loads): isa
        for isa in reversed(ISAS)
        if _forms(isa)
    }.values()
)
"""Instruction sets with integer dot products, one for each way to use them."""

INTEGER_KERNELS = [(isa, form) for isa in INTEGER_ISAS for form in _forms(isa)]
"""Each of them with each form of its linear layers' inputs."""


def linear_shape(isa: Isa, scheme: str, name: str, hidden: int) -> LinearShape:
    """The layer `name` of the small model with another hidden size, padded as a plan pads it."""
    return Plan(replace(SMALL, hidden_size=hidden), SCHEMES[scheme], isa).linears[name]


def byte_shape(isa: Isa, n: int, k: int, accumulate: bool, vectors: int | None = None) -> LinearShape:
    """A layer of any size with bytes for weights, in blocks of some vectors of channels or as many as a plan's."""
    block = isa.lanes * (vectors or isa.vectors)
    return LinearShape("any", padded(n, block), k, block, 2 * isa.lanes, isa.dot_step, accumulate)


def packed_weight(weight: np.ndarray, shape: LinearShape) -> np.ndarray:
    """[n, k] to [n/block, k, block]: number by number."""
    packed = np.zeros(shape.packed, weight.dtype)
    n, k = np.indices(weight.shape)
    packed[n // shape.block, k, n % shape.block] = weight
    return packed


def bfloat16_bits(array: np.ndarray) -> np.ndarray:
    """The bits of numbers rounded to bfloat16, by another library's arithmetic than ours."""
    return array.astype(ml_dtypes.bfloat16).view(np.uint16)


def packed_bytes(weight: np.ndarray, shape: LinearShape, isa: Isa) -> np.ndarray:
    """[n, k] to [n/block, k/s, block*s], as unsigned numbers with 128 added or signed: number by number."""
    packed = np.zeros(shape.packed, np.uint8)
    n, k = np.indices(weight.shape)
    half_run = shape.run // 2
    run, half, place = k // shape.run, k % shape.run // half_run, k % half_run
    at, s = run * shape.run + place * 2 + half, 4 * isa.dot_rows
    packed[n // shape.block, at // s, n % shape.block * s + at % s] = weight.astype(int) + isa.byte_offset & 255
    return packed


def arrays(form: Form, isa: Isa, x: np.ndarray, scale: np.ndarray) -> list[np.ndarray]:
    """Integers x [m, k] and scales [m, ...] as the arrays of a form, by its definition."""
    if form is HALVES:
        return [_halves(x, isa.lanes), -isa.byte_offset * _sums(x, CHUNK), scale]
    free = np.full((len(x), 32), 12345)
    if form is PAIRS:
        return [np.hstack([x, free]).astype(np.int16), _pair_corrections(x, isa), scale]
    if form is WORDS:
        return [np.hstack([x, free]).astype(np.int16), -isa.byte_offset * _sums(x, CHUNK), scale]
    return [_words(x, isa.lanes), -isa.byte_offset * _sums(x, GROUP), scale]


def _words(x: np.ndarray, lanes: int) -> np.ndarray:
    """Of each run of two vectors of bytes, those of the first below those of the second."""
    m, k = x.shape
    runs = (x & 255).reshape(m, k // (2 * lanes), 2, lanes)
    return (runs[:, :, 0] | runs[:, :, 1] << 8).reshape(m, k // 2).astype(np.uint16)


def _high_low(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low = (x + 128) % 256 - 128
    return (x - low) // 256, low


def _halves(x: np.ndarray, lanes: int) -> np.ndarray:
    m, k = x.shape
    high, low = (_words(part, lanes).reshape(m, k // (2 * lanes), 1, lanes) for part in _high_low(x))
    return np.concatenate([high, low], axis=2).reshape(m, k)


def _sums(x: np.ndarray, width: int) -> np.ndarray:
    """Of each `width` columns, the last fewer."""
    return np.add.reduceat(x, np.arange(0, x.shape[1], width), axis=1).astype(np.int32)


def _pair_corrections(x: np.ndarray, isa: Isa) -> np.ndarray:
    """-128 times the sum of a chunk, less the products of the partners whose group's class is traded; modulo 2**32."""
    m, k = x.shape
    corrections = np.zeros((m, -(-k // CHUNK), CLASSES), np.int64)
    for i in range(k):
        corrections[:, i // CHUNK] -= 128 * x[:, i, None]
        if i % (2 * isa.lanes) < isa.lanes:
            group = i // (2 * isa.lanes) * (isa.lanes // 2) + i % isa.lanes // 2
            for column in range(CLASSES):
                if (group + column) % CLASSES < isa.traded:
                    corrections[:, i // CHUNK, column] -= x[:, i] * x[:, i + isa.lanes]
    return corrections.reshape(m, -1).astype(np.uint64).astype(np.uint32).view(np.int32)
