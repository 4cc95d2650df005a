"""Rotary embedding as complex numbers, and exactly the right places of the cache, of either dtype."""

import cmath

import numpy as np
import pytest
from stored import DTYPES, empty_cache, is_empty, take_token

from ilmari.kernels.kv_layout import BLOCK_SIZE
from ilmari.kernels.rope_append import rope_append, rope_reference

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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(3, 1, 64), (4, 2, 128), (1, 1, 32)])
def test_rope_append(compiled, rng, m, heads, kv_heads, head_dim, dtype):
    used = (heads + 2 * kv_heads) * head_dim
    stride = used + 32
    x = (rng.standard_normal((m, stride)) * 10 ** rng.uniform(-6, 3, (m, 1))).astype(np.float32)
    x[:, used:] = np.nan  # padding is not read
    angles = rng.uniform(-100, 100, (m, head_dim // 2))
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    slots = rng.permutation(BLOCKS * BLOCK_SIZE)[:m].astype(np.int32)
    q = np.full((m, heads * head_dim), np.nan, np.float32)
    k, v = empty_cache(dtype, BLOCKS, kv_heads, head_dim)
    compiled(rope_append, heads, kv_heads, head_dim, stride, dtype)(x, cos, sin, slots, q, k, v)

    queries, keys, values = np.split(x[:, :used].reshape(m, -1, head_dim), [heads, heads + kv_heads], axis=1)
    size = np.abs(x[:, :used]).max(axis=1)[:, None, None]
    want = rotated(queries, cos, sin) / np.sqrt(head_dim)
    assert (np.abs(q.reshape(want.shape) - want) <= 2e-7 * size).all()

    for row, slot in enumerate(slots):
        want_key = rotated(keys[row : row + 1], cos[row : row + 1], sin[row : row + 1])[0]
        error = 2e-7 * size[row]  # of float32, before it is rounded
        key, value, *scales = take_token(k, v, int(slot))
        if dtype == "float16":
            # Half a unit in float16's last place.
            assert (np.abs(key.astype(np.float64) - want_key) <= 2.0**-11 * np.abs(want_key) + 2.0**-25 + error).all()
            np.testing.assert_array_equal(value, values[row].astype(np.float16))
        else:
            check_int8(key, scales[0], want_key, error)
            check_int8(value, scales[1], values[row].astype(np.float64), 0)
    assert is_empty(k)
    assert is_empty(v)


def check_int8(levels, scale, want, error):
    """The largest of each head is 127 scales, and nothing is further than half a scale from what is stored."""
    scale = scale[:, None].astype(np.float64)
    assert (np.abs(levels).max(axis=1) == 127).all()
    largest = np.abs(want).max(axis=1, keepdims=True)
    np.testing.assert_allclose(scale, largest / 127, rtol=2e-7, atol=np.max(error) / 127)
    assert (np.abs(levels * scale - want) <= 0.5 * scale * (1 + 2e-5) + error).all()


def stored_int8(compiled, head):
    """Levels and scales of a key and a value, both `head`, without rotation."""
    x = np.concatenate([np.zeros(len(head)), head, head]).astype(np.float32)[None]
    cos, sin = np.ones((1, len(head) // 2), np.float32), np.zeros((1, len(head) // 2), np.float32)
    q, (k, v) = np.zeros((1, len(head)), np.float32), empty_cache("int8", 1, 1, len(head))
    compiled(rope_append, 1, 1, len(head), x.shape[1], "int8")(x, cos, sin, np.array([7], np.int32), q, k, v)
    return take_token(k, v, 7)


def test_halves_go_to_even(compiled):
    head = np.zeros(32)
    head[:12] = [127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, -126.5, 125.5, 0.49999997, 3.5000002]
    key, value, key_scale, value_scale = stored_int8(compiled, head)
    for levels, scale in ((key, key_scale), (value, value_scale)):
        assert scale[0] == 1
        assert levels[0, :12].tolist() == [127, 0, 2, 2, 0, -2, -2, 126, -126, 126, 0, 4]
        assert not levels[0, 12:].any()


@pytest.mark.parametrize("size", [0, 1e-42, 1e-31, 1e-29, 3e38])
def test_the_smallest_and_largest_heads(compiled, size):
    """Zero has scale 0, and so has what is as good as zero; nothing becomes infinite or NaN."""
    head = np.linspace(-size, size, 32).astype(np.float32)
    key, value, key_scale, value_scale = stored_int8(compiled, head)
    for levels, scale in ((key, key_scale), (value, value_scale)):
        if size < 1e-30:
            assert scale[0] == 0
        else:
            check_int8(levels, scale, head[None].astype(np.float64), 0)


def test_what_float16_cannot_hold_becomes_its_largest(compiled):
    x = np.full((1, 4 * 32), 1e6, np.float32)
    cos, sin = np.ones((1, 16), np.float32), np.zeros((1, 16), np.float32)
    q, (k, v) = np.zeros((1, 32), np.float32), empty_cache("float16", 1, 1, 32)
    compiled(rope_append, 1, 1, 32, 128, "float16")(x, cos, sin, np.array([5], np.int32), q, k, v)
    np.testing.assert_allclose(q, 1e6 / np.sqrt(32), rtol=1e-6)
    key, value = take_token(k, v, 5)
    assert (key == 65504).all()
    assert (value == 65504).all()
