"""Linear layers with float32 activations and float16, bfloat16 and int8 weights, at padded odd shapes."""

import ml_dtypes
import numpy as np
import pytest
from packed import linear_shape, packed_weight

from ilmari.kernels.linear_float import linear_float, linear_float_reference
from ilmari.kernels.plan import LinearShape

every_dtype = pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])


def random_weight(rng, n, k, dtype):
    if dtype == "int8":
        return rng.integers(-128, 128, (n, k)).astype(np.int8)
    spread = rng.standard_normal((n, k)) * 10 ** rng.uniform(-7, 3, (n, 1))
    return spread.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float16)  # subnormals too


def stored(weight, shape):
    """Packed; bfloat16 by its bits."""
    return packed_weight(weight.view(np.uint16) if weight.dtype == ml_dtypes.bfloat16 else weight, shape)


def check(kernel, shape, weight, x, scale, before):
    """Error within 1e-6 of the sum of the products' magnitudes."""
    y = before.copy()
    kernel(x, stored(weight, shape), scale, y)
    wide, factor = weight.astype(np.float64), scale.astype(np.float64)
    want = linear_float_reference(x, weight, scale)
    magnitude = np.abs(x.astype(np.float64)) @ np.abs(wide).T * factor
    if shape.accumulate:
        want, magnitude = want + before, magnitude + np.abs(before)
    assert np.isfinite(y).all()
    assert (np.abs(y - want) <= 1e-6 * magnitude).all()


@every_dtype
@pytest.mark.parametrize(("name", "hidden"), [("o", 80), ("down", 96), ("head", 96)])
def test_linear_float(isa, compiled, rng, m, name, hidden, dtype):
    shape = linear_shape(isa, "fp16", name, hidden)
    assert shape.n % 64 or shape.k % 64
    weight = random_weight(rng, shape.n, shape.k, dtype)
    x = rng.standard_normal((m, shape.k)).astype(np.float32)
    scale = rng.uniform(0.1, 2, shape.n).astype(np.float32)
    before = rng.standard_normal((m, shape.n)).astype(np.float32)
    check(
        compiled(linear_float, shape, dtype), shape, weight, x, scale, before if shape.accumulate else before + np.nan
    )


@every_dtype
def test_one_product_at_a_time(isa, compiled, dtype):
    """Each weight alone, so that no two can be exchanged unnoticed."""
    shape = linear_shape(isa, "fp16", "o", 80)
    weight = (np.arange(shape.n * shape.k).reshape(shape.n, shape.k) % 251 - 125).astype(np.dtype(dtype))
    x = np.eye(shape.k, dtype=np.float32)
    y = np.zeros((shape.k, shape.n), np.float32)
    compiled(linear_float, shape, dtype)(x, stored(weight, shape), np.ones(shape.n, np.float32), y)
    np.testing.assert_array_equal(y, weight.T.astype(np.float32))


@every_dtype
def test_a_row_of_zeros_gives_zeros_and_leaves_its_neighbours_alone(isa, compiled, rng, dtype):
    shape = linear_shape(isa, "fp16", "head", 96)
    x = rng.standard_normal((6, shape.k)).astype(np.float32)
    x[3] = 0
    weight = random_weight(rng, shape.n, shape.k, dtype)
    y = np.full((6, shape.n), np.nan, np.float32)
    compiled(linear_float, shape, dtype)(x, stored(weight, shape), np.ones(shape.n, np.float32), y)
    assert (y[3] == 0).all()
    assert (np.abs(y[[0, 1, 2, 4, 5]]).max(axis=1) > 0).all()


def test_deep_rows(isa, compiled, rng):
    block = isa.lanes * isa.vectors
    shape = LinearShape("deep", block, 16384, block, 1, 1, False)
    x = rng.standard_normal((5, shape.k)).astype(np.float32)
    weight = random_weight(rng, shape.n, shape.k, "float16")
    before = np.full((5, shape.n), np.nan, np.float32)
    check(compiled(linear_float, shape, "float16"), shape, weight, x, np.ones(shape.n, np.float32), before)
