"""Gate and up projections with SiLU and quantization in one kernel: against float64, and the kernels that it joins."""

import numpy as np
import pytest
from packed import INTEGER_KERNELS, ROWS, arrays, byte_shape, packed_bytes

from ilmari.kernels.form import GROUP, GROUPS
from ilmari.kernels.gated_groups import BATCH, gated_groups
from ilmari.kernels.layer_input import silu
from ilmari.kernels.linear_groups import linear_groups, linear_int8_reference
from ilmari.kernels.plan import padded
from ilmari.kernels.silu_multiply import silu_multiply_reference

# What differs from one dot product to the next is in the kernel that this one joins, and is tested with that.
ISAS = [isa for isa, form in INTEGER_KERNELS if form is GROUPS and isa.name != "neon-dotprod"]
pytestmark = pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name, indirect=True)


def shape_of(isa, inner, k):
    """A projection to 2 * inner channels, at the least padded to whole register tiles."""
    return byte_shape(isa, 2 * padded(inner, max(isa.lanes * isa.vectors, 32)), k, False)


def operands(shape, rng, m):
    """The form of random rows and weights; gates are about as large as SiLU bends."""
    x, weight = rng.integers(-127, 128, (m, shape.k)), rng.integers(-128, 128, (shape.n, shape.k)).astype(np.int8)
    scale = rng.uniform(0.5, 1.5, (m, GROUPS.parts[2].columns(shape.k))).astype(np.float32)
    channel_scale = rng.uniform(1e-4, 1e-3, shape.n).astype(np.float32) / np.float32(np.sqrt(shape.k))
    return x, weight, scale, channel_scale


def empty(m, k):
    return [np.full((m, part.columns(k)), 99).astype(part.dtype) for part in GROUPS.parts]


def numbers(isa, got, k):
    """What the bytes of the form `groups` stand for."""
    words = got[0].astype(np.int64).reshape(len(got[0]), -1, isa.lanes)
    signed = np.stack([words & 255, words >> 8], axis=2)
    signed = np.where(signed > 127, signed - 256, signed).reshape(len(words), k)
    unit = np.repeat(got[2].astype(np.float64), GROUP, axis=1)[:, :k]
    return signed * unit, unit


@pytest.mark.parametrize(("inner", "k"), [(32, 96), (100, 160), (200, 2208)])
def test_within_a_level_of_float64(isa, compiled, rng, inner, k):
    shape, m = shape_of(isa, inner, k), max(ROWS)
    x, weight, scale, channel_scale = operands(shape, rng, m)
    got = empty(m, shape.n // 2)
    compiled(gated_groups, shape)(*arrays(GROUPS, isa, x, scale), packed_bytes(weight, shape, isa), channel_scale, *got)
    y = linear_int8_reference(x, weight, scale, channel_scale).astype(np.float32)
    want = silu_multiply_reference(y, shape.n // 2)
    found, unit = numbers(isa, got, shape.n // 2)
    assert np.abs(want).max() > 0.1
    assert (np.abs(found - want) <= 0.55 * unit).all()


@pytest.mark.parametrize("m", [*ROWS, BATCH + 1, 2 * BATCH + 7])
def test_the_same_bits_as_two_kernels(isa, compiled, rng, m):
    shape = shape_of(isa, 200, 2208)
    inner = shape.n // 2
    x, weight, scale, channel_scale = operands(shape, rng, m)
    inputs = *arrays(GROUPS, isa, x, scale), packed_bytes(weight, shape, isa), channel_scale
    y, want, got = np.zeros((m, shape.n), np.float32), empty(m, inner), empty(m, inner)
    compiled(linear_groups, shape)(*inputs, y)
    compiled(silu, GROUPS, inner, shape.n)(y, *want)
    compiled(gated_groups, shape)(*inputs, *got)
    for array, expected in zip(got, want, strict=True):
        np.testing.assert_array_equal(array, expected)
