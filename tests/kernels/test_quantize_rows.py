"""Activations to 16-bit integers: the nearest level, in the byte order that linear_int8 reads."""

import numpy as np
import pytest
from packed import packed_rows

from ilmari.kernels.isa import ISAS
from ilmari.kernels.quantize_rows import quantize_rows, quantize_rows_reference, unpack_rows

pytestmark = pytest.mark.parametrize(
    "isa", [isa for isa in ISAS if isa.int8_dot], ids=lambda isa: isa.name, indirect=True
)


def run(compiled, x):
    m, k = x.shape
    q, scale = np.zeros((m, k // 16, 2, 16), np.uint8), np.full(m, np.nan, np.float32)
    compiled(quantize_rows, k)(x, q, scale)
    levels = unpack_rows(q)
    np.testing.assert_array_equal(packed_rows(levels), q)
    return levels, scale


def check(x, levels, scale):
    """Each level is the nearest, but for the last bits of the float32 that is rounded to it."""
    largest = np.abs(x).max(axis=1)
    np.testing.assert_allclose(scale, largest.astype(np.float64) / 32767, rtol=2e-7)
    exact = x.astype(np.float64) / np.where(largest > 0, largest, 1)[:, None] * 32767
    assert np.abs(levels - exact).max() <= 0.51
    assert (np.abs(levels).max(axis=1)[largest > 0] == 32767).all()


def test_reference_by_hand(isa):
    del isa
    x = np.array([[2.0, -2.0, 0.5, 3e-5, -1.0, 0.0], [0.0] * 6], np.float32)
    levels, scale = quantize_rows_reference(x)
    assert levels.tolist() == [[32767, -32767, 8192, 0, -16384, 0], [0] * 6]
    assert scale.tolist() == [2 / 32767, 0]


@pytest.mark.parametrize("k", [16, 80])
def test_quantize_rows(compiled, rng, m, k):
    x = (rng.standard_normal((m, k)) * 10 ** rng.uniform(-6, 4, (m, 1))).astype(np.float32)
    levels, scale = run(compiled, x)
    check(x, levels, scale)
    want, want_scale = quantize_rows_reference(x)
    assert np.abs(levels - want).max() <= 1
    np.testing.assert_allclose(scale, want_scale, rtol=2e-7)


def test_every_lane_can_hold_the_largest(compiled, rng):
    x = rng.uniform(-1, 1, (32, 80)).astype(np.float32)
    lane = np.arange(32) % 16 + 32
    x[np.arange(32), lane] = np.where(np.arange(32) < 16, 5, -5)
    levels, scale = run(compiled, x)
    check(x, levels, scale)
    assert (np.abs(levels[np.arange(32), lane]) == 32767).all()


def test_rows_of_zeros(compiled, rng):
    x = rng.standard_normal((3, 80)).astype(np.float32)
    x[1] = 0
    x[2, ::2] = -0.0
    x[2, 1::2] = 0
    levels, scale = run(compiled, x)
    check(x[:1], levels[:1], scale[:1])
    assert scale[1:].tolist() == [0, 0]
    assert (levels[1:] == 0).all()


@pytest.mark.parametrize("huge", [6e4, -1e30, 3.4e38])
def test_one_huge_value(compiled, rng, huge):
    x = rng.standard_normal((9, 80)).astype(np.float32)
    x[4, 33] = huge
    levels, scale = run(compiled, x)
    check(x, levels, scale)
    assert levels[4, 33] == np.sign(huge) * 32767


def test_tiny_rows_stay_tiny(compiled):
    x = np.linspace(-1e-32, 1e-32, 80, dtype=np.float32)[None]
    levels, scale = run(compiled, x)
    assert np.abs(levels * scale.astype(np.float64)[:, None]).max() <= 1.01e-32
