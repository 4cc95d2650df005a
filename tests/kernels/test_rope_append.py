"""Rotary embedding as complex numbers, and exactly the right places of the cache."""

import cmath

import numpy as np
import pytest

from ilmari.kernels.kv_layout import BLOCK_SIZE, key_shape, value_shape
from ilmari.kernels.rope_append import rope_append, rope_reference

UNTOUCHED = np.float16(-777)
BLOCKS = 11


def rotated(x, cos, sin):
    """[m, heads, head_dim]: feature d and feature d + head_dim/2 are one complex number, turned by an angle."""
    half = x.shape[-1] // 2
    turned = (x[..., :half].astype(np.float64) + 1j * x[..., half:]) * (cos + 1j * sin.astype(np.float64))[:, None]
    return np.concatenate([turned.real, turned.imag], axis=-1)


def test_reference_by_hand():
    head, angles = [0.5, -2.0, 3.0, 1.0], [0.3, 2.0]
    want = [complex(head[d], head[d + 2]) * cmath.exp(1j * angles[d]) for d in range(2)]
    cos, sin = np.cos([angles]).astype(np.float32), np.sin([angles]).astype(np.float32)
    got = rope_reference(np.array([[head]], np.float32), cos, sin)[0, 0]
    np.testing.assert_allclose(got, [want[0].real, want[1].real, want[0].imag, want[1].imag], rtol=1e-6)


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(3, 1, 64), (4, 2, 128), (1, 1, 32)])
def test_rope_append(compiled, rng, m, heads, kv_heads, head_dim):
    used = (heads + 2 * kv_heads) * head_dim
    stride = used + 32
    x = (rng.standard_normal((m, stride)) * 10 ** rng.uniform(-6, 3, (m, 1))).astype(np.float32)
    x[:, used:] = np.nan  # padding is not read
    angles = rng.uniform(-100, 100, (m, head_dim // 2))
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    slots = rng.permutation(BLOCKS * BLOCK_SIZE)[:m].astype(np.int32)
    q = np.full((m, heads * head_dim), np.nan, np.float32)
    k = np.full(key_shape(BLOCKS, kv_heads, head_dim), UNTOUCHED)
    v = np.full(value_shape(BLOCKS, kv_heads, head_dim), UNTOUCHED)
    compiled(rope_append, heads, kv_heads, head_dim, stride)(x, cos, sin, slots, q, k, v)

    queries, keys, values = np.split(x[:, :used].reshape(m, -1, head_dim), [heads, heads + kv_heads], axis=1)
    size = np.abs(x[:, :used]).max(axis=1)[:, None, None]
    want = rotated(queries, cos, sin) / np.sqrt(head_dim)
    assert (np.abs(q.reshape(want.shape) - want) <= 2e-7 * size).all()

    for row, slot in enumerate(slots):
        block, offset = divmod(int(slot), BLOCK_SIZE)
        want = rotated(keys[row : row + 1], cos[row : row + 1], sin[row : row + 1])[0]
        got = k[block, :, :, offset].astype(np.float64)
        # Half a unit in float16's last place, and float32's error before it.
        assert (np.abs(got - want) <= 2.0**-11 * np.abs(want) + 2.0**-25 + 2e-7 * size[row]).all()
        np.testing.assert_array_equal(v[block, :, offset], values[row].astype(np.float16))
        k[block, :, :, offset] = v[block, :, offset] = UNTOUCHED
    assert (k == UNTOUCHED).all()
    assert (v == UNTOUCHED).all()


def test_what_float16_cannot_hold_becomes_its_largest(compiled):
    x = np.full((1, 4 * 32), 1e6, np.float32)
    cos, sin = np.ones((1, 16), np.float32), np.zeros((1, 16), np.float32)
    q, k, v = np.zeros((1, 32), np.float32), np.zeros(key_shape(1, 1, 32), "f2"), np.zeros(value_shape(1, 1, 32), "f2")
    compiled(rope_append, 1, 1, 32, 128)(x, cos, sin, np.array([5], np.int32), q, k, v)
    np.testing.assert_allclose(q, 1e6 / np.sqrt(32), rtol=1e-6)
    assert (k[0, 0, :, 5] == 65504).all()
    assert (v[0, 0, 5] == 65504).all()
