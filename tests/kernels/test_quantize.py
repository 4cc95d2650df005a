"""Integer inputs of linear layers: the nearest level, in the order that the products read."""

import numpy as np
import pytest
from packed import INTEGER_KERNELS, ROWS, arrays

from ilmari.kernels.form import GROUP, GROUPS, HALVES, PAIRS, WORDS
from ilmari.kernels.layer_input import copy, norm, silu
from ilmari.kernels.quantize_groups import groups_reference
from ilmari.kernels.quantize_int16 import LEVELS, int16_reference
from ilmari.kernels.rmsnorm import rmsnorm_reference
from ilmari.kernels.silu_multiply import silu_multiply_reference

pytestmark = pytest.mark.parametrize(("isa", "form"), INTEGER_KERNELS, ids=lambda value: value.name, indirect=["isa"])
TOP = {HALVES: LEVELS, PAIRS: LEVELS, WORDS: LEVELS, GROUPS: 127}


def empty(form, m, k):
    return [np.full((m, part.columns(k)), 99).astype(part.dtype) for part in form.parts]


def integers(form, isa, values, k):
    """The integers that the values of a form hold."""
    if form in (PAIRS, WORDS):
        return values[:, :k].astype(np.int64)
    lanes = isa.lanes
    words = values.astype(np.int64).reshape(len(values), -1, lanes)
    signed = np.stack([words & 255, words >> 8], axis=2)
    signed = np.where(signed > 127, signed - 256, signed)  # [m, vectors of words, 2, lanes]
    if form is GROUPS:
        return signed.reshape(len(values), k)
    halves = signed.reshape(len(values), k // (2 * lanes), 2, 2 * lanes)
    return (halves[:, :, 0] * 256 + halves[:, :, 1]).reshape(len(values), k)


def check(form, isa, x, got):
    """Each integer is the nearest, but for the last bits of the float32 that is rounded to it."""
    k = x.shape[1]
    q, scale = integers(form, isa, got[0], k), got[2]
    unit = np.abs(x).max(axis=1, keepdims=True) if form is not GROUPS else group_largest(x)
    np.testing.assert_allclose(scale, unit.astype(np.float64) / TOP[form], rtol=4e-7)
    wide = scale if form is not GROUPS else np.repeat(scale, GROUP, axis=1)[:, :k]
    exact = x.astype(np.float64) / np.where(wide > 0, wide, 1)
    assert np.abs(q - exact).max() <= 0.52
    assert np.abs(q).max() <= TOP[form]
    want = arrays(form, isa, q, scale)
    np.testing.assert_array_equal(got[1], want[1])
    columns = k if form in (PAIRS, WORDS) else None  # the rest is free
    np.testing.assert_array_equal(got[0][:, :columns], want[0][:, :columns])
    return q


def group_largest(x):
    return np.maximum.reduceat(np.abs(x), np.arange(0, x.shape[1], GROUP), axis=1)


def random_rows(rng, m, k):
    return (rng.standard_normal((m, k)) * 10 ** rng.uniform(-6, 4, (m, 1))).astype(np.float32)


def run(kernel, form, x, k, *weight):
    """The arrays of all rows of x; as many rows as ROWS says, alone, give the same numbers."""
    got = empty(form, len(x), k)
    kernel(x, *weight, *got)
    for m in ROWS:
        few = empty(form, m, k)
        kernel(x[:m].copy(), *weight, *few)
        for array, whole in zip(few, got, strict=True):
            np.testing.assert_array_equal(array, whole[:m])
    return got


@pytest.mark.parametrize("k", [32, 96, 1120])
def test_copy(isa, form, compiled, rng, k):
    x = random_rows(rng, max(ROWS), k)
    got = run(compiled(copy, form, k), form, x, k)
    q = check(form, isa, x, got)
    want, _ = groups_reference(x) if form is GROUPS else int16_reference(x)
    assert np.abs(q - want).max() <= 1


@pytest.mark.parametrize("k", [96])
def test_norm(isa, form, compiled, rng, k):
    x, weight = random_rows(rng, max(ROWS), k), rng.standard_normal(k).astype(np.float32)
    got = run(compiled(norm, form, k, 1e-5), form, x, k, weight)
    normed = rmsnorm_reference(x, weight, 1e-5)
    check_near(form, isa, normed, got)


@pytest.mark.parametrize("k", [96, 224])
def test_silu(isa, form, compiled, rng, k):
    x = rng.standard_normal((max(ROWS), 2 * k + 64)).astype(np.float32) * 3
    got = run(compiled(silu, form, k, 2 * k + 64), form, x, k)
    check_near(form, isa, silu_multiply_reference(x, k), got)


def check_near(form, isa, want, got):
    """What the integers stand for is within a level of what was computed before they were rounded."""
    k = want.shape[1]
    scale = got[2].astype(np.float64)
    wide = np.repeat(scale, GROUP, axis=1)[:, :k] if form is GROUPS else scale
    assert (np.abs(integers(form, isa, got[0], k) * wide - want) <= 0.55 * wide + 1e-30).all()


def test_every_lane_can_hold_the_largest(isa, form, compiled, rng):
    x = rng.uniform(-1, 1, (64, 96)).astype(np.float32)
    row, lane = np.arange(64), np.arange(64) % 32 + 32
    x[row, lane] = np.where(row < 32, 5, -5)
    got = empty(form, 64, 96)
    compiled(copy, form, 96)(x, *got)
    q = check(form, isa, x, got)
    assert (np.abs(q[row, lane]) == TOP[form]).all()


def test_rows_of_zeros(isa, form, compiled, rng):
    x, got = rng.standard_normal((3, 96)).astype(np.float32), empty(form, 3, 96)
    x[1] = 0
    x[2, ::2] = -0.0
    x[2, 1::2] = 0
    compiled(copy, form, 96)(x, *got)
    q = check(form, isa, x, got)
    assert (got[2][1:] == 0).all()
    assert (q[1:] == 0).all()


@pytest.mark.parametrize("huge", [6e4, -1e30, 3.4e38])
def test_one_huge_value(isa, form, compiled, rng, huge):
    x, got = rng.standard_normal((9, 96)).astype(np.float32), empty(form, 9, 96)
    x[4, 33] = huge
    compiled(copy, form, 96)(x, *got)
    assert check(form, isa, x, got)[4, 33] == np.sign(huge) * TOP[form]


def test_tiny_rows_stay_tiny(isa, form, compiled):
    x, got = np.linspace(-1e-34, 1e-34, 96, dtype=np.float32)[None], empty(form, 1, 96)
    compiled(copy, form, 96)(x, *got)
    q = integers(form, isa, got[0], 96)
    wide = got[2].astype(np.float64).max()
    assert np.abs(q * wide).max() <= 1.01e-34
