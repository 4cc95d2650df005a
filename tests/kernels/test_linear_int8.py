"""Linear layers of int8 weights and 16-bit activations by byte dot products, against 64-bit integers."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packed import linear_shape, packed_rows, packed_weight

from ilmari.kernels.isa import ISAS
from ilmari.kernels.linear_int8 import linear_int8, linear_int8_reference
from ilmari.kernels.plan import LinearShape, padded

pytestmark = pytest.mark.parametrize(
    "isa", [isa for isa in ISAS if isa.int8_dot], ids=lambda isa: isa.name, indirect=True
)


def run(kernel, shape, x, weight, channel_scale, row_scale, before):
    y = before.copy()
    channel_sum = (128 * weight.sum(axis=1, dtype=np.int64)).astype(np.int32)
    kernel(packed_rows(x), packed_weight(weight, shape), channel_scale, channel_sum, row_scale, y)
    return y


def check(kernel, shape, rng, x, weight):
    """Error within float32's rounding of the two halves' sums."""
    m = len(x)
    channel_scale = rng.uniform(0.001, 0.01, shape.n).astype(np.float32)
    row_scale = rng.uniform(1e-6, 1e-3, m).astype(np.float32)
    before = rng.standard_normal((m, shape.n)).astype(np.float32)
    y = run(kernel, shape, x, weight, channel_scale, row_scale, before if shape.accumulate else before + np.nan)
    scale = np.outer(row_scale.astype(np.float64), channel_scale.astype(np.float64))
    want = linear_int8_reference(x, weight, row_scale, channel_scale)
    magnitude = (np.abs(x) @ np.abs(weight.astype(np.int64)).T) * scale
    if shape.accumulate:
        want, magnitude = want + before, magnitude + np.abs(before)
    assert (np.abs(y - want) <= 1e-6 * magnitude + 1e-30).all()


def random_rows(rng, m, k):
    return rng.integers(-32767, 32768, (m, k))


def random_weight(rng, n, k):
    return rng.integers(-128, 128, (n, k)).astype(np.int8)


@pytest.mark.parametrize(("name", "hidden"), [("o", 80), ("down", 96), ("gate_up", 80), ("head", 96)])
def test_linear_int8(isa, compiled, rng, m, name, hidden):
    shape = linear_shape(isa, "w8a16", name, hidden)
    x, weight = random_rows(rng, m, shape.k), random_weight(rng, shape.n, shape.k)
    check(compiled(linear_int8, shape), shape, rng, x, weight)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    m=st.integers(1, 20), n=st.integers(1, 200), k=st.integers(1, 300), accumulate=st.booleans(), seed=st.integers(0)
)
def test_linear_int8_at_any_shape(isa, compiled, m, n, k, accumulate, seed):
    vectors = isa.vectors if seed % 2 else 1
    block = isa.lanes * vectors
    shape = LinearShape("any", padded(n, block), padded(k, 16), block, 4, accumulate)
    rng = np.random.default_rng(seed)
    x, weight = random_rows(rng, m, shape.k), random_weight(rng, shape.n, shape.k)
    check(compiled(linear_int8, shape), shape, rng, x, weight)


def test_one_product_at_a_time(isa, compiled):
    """Each weight alone, in either byte, so that no two can be exchanged unnoticed."""
    shape = linear_shape(isa, "w8a16", "head", 96)
    weight = (np.arange(shape.n * shape.k).reshape(shape.n, shape.k) % 251 - 125).astype(np.int8)
    ones = np.ones(shape.n, np.float32)
    for unit in (1, 256):
        x = np.eye(shape.k, dtype=np.int64) * unit
        y = run(
            compiled(linear_int8, shape),
            shape,
            x,
            weight,
            ones,
            ones[: shape.k],
            np.zeros((shape.k, shape.n), np.float32),
        )
        np.testing.assert_array_equal(y, weight.T.astype(np.float32) * unit)


def test_the_largest_sums_fit(isa, compiled):
    """Every activation and weight at its extreme over 16,384 inputs: no sum leaves int32."""
    block = isa.lanes * isa.vectors
    shape = LinearShape("deep", block, 16384, block, 4, False)
    alternate = np.arange(shape.k) % 2
    extremes = [32767, -32767, -32768, -1, 0, 255 - 32768, 32512]  # both bytes full, empty, and one of each
    x = np.stack([*(np.full(shape.k, value) for value in extremes), 65535 * alternate - 32768])
    weights = [np.full(shape.k, 127), np.full(shape.k, -128), 255 * alternate - 128, 127 - 255 * alternate]
    weight = np.tile(np.stack(weights), (block // len(weights), 1)).astype(np.int8)
    ones = np.ones(block, np.float32)
    y = run(compiled(linear_int8, shape), shape, x, weight, ones, ones[: len(x)], np.zeros((len(x), block), np.float32))
    want = x @ weight.astype(np.int64).T
    assert np.abs(want).max() == 32768 * 128 * 16384
    np.testing.assert_allclose(y, want, rtol=1e-6)


def test_a_row_of_zeros_gives_zeros(isa, compiled, rng):
    shape = linear_shape(isa, "w8a16", "head", 96)
    x, weight = random_rows(rng, 7, shape.k), random_weight(rng, shape.n, shape.k)
    x[[2, 6]] = 0
    ones = np.ones(shape.n, np.float32)
    y = run(compiled(linear_int8, shape), shape, x, weight, ones, ones[:7], np.full((7, shape.n), np.nan, np.float32))
    assert (y[[2, 6]] == 0).all()
    np.testing.assert_allclose(y[3], x[3] @ weight.astype(np.int64).T, rtol=1e-6, atol=10)
