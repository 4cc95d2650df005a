"""Linear layers for many rows by bfloat16 dot products, against float64, at padded odd shapes."""

import ml_dtypes
import numpy as np
import pytest
from packed import bfloat16_bits, linear_shape, packed_weight

from ilmari.kernels.isa import ISAS
from ilmari.kernels.linear_bfloat16 import PANEL, linear_bfloat16, linear_bfloat16_reference
from ilmari.kernels.plan import LinearShape

pytestmark = pytest.mark.parametrize(
    "isa", [next(isa for isa in ISAS if isa.bf16_dot)], ids=lambda isa: isa.name, indirect=True
)
either_dtype = pytest.mark.parametrize("dtype", ["float16", "bfloat16"])


@pytest.fixture(params=[1, 5, 6, 7, 31, 33, 70])
def m(request):
    """Rows: whole register tiles, and what is left beside them."""
    return request.param


def rounded(array):
    """float32 numbers that bfloat16 holds."""
    return array.astype(ml_dtypes.bfloat16).astype(np.float32)


def check(compiled, rng, shape, m, dtype):
    """Error within float32's rounding of the sums: the products are exact."""
    weight = rng.standard_normal((shape.n, shape.k)) * 10 ** rng.uniform(-2, 3, (shape.n, 1))
    x = rng.standard_normal((m, shape.k)).astype(np.float32)
    scale = rng.uniform(0.1, 2, shape.n).astype(np.float32)
    before = rng.standard_normal((m, shape.n)).astype(np.float32)
    y = before.copy() if shape.accumulate else before + np.nan
    if dtype == "bfloat16":
        bits = bfloat16_bits(weight)
        exact = bits.view(ml_dtypes.bfloat16).astype(np.float32)
    else:
        bits = weight.astype(np.float16)
        exact = rounded(bits)
    compiled(linear_bfloat16, shape, dtype)(bfloat16_bits(x), packed_weight(bits, shape), scale, y)
    want = linear_bfloat16_reference(rounded(x), exact, scale)
    magnitude = np.abs(rounded(x).astype(np.float64)) @ np.abs(exact.astype(np.float64)).T * scale
    if shape.accumulate:
        want, magnitude = want + before, magnitude + np.abs(before)
    assert (np.abs(y - want) <= 1e-6 * magnitude).all()


@either_dtype
@pytest.mark.parametrize(("name", "hidden"), [("o", 80), ("down", 96), ("gate_up", 80), ("head", 96)])
def test_linear_bfloat16(isa, compiled, rng, m, name, hidden, dtype):
    shape = linear_shape(isa, "bf16", name, hidden)
    assert shape.n % 64 or shape.k % 64
    check(compiled, rng, shape, m, dtype)


@pytest.mark.parametrize(("accumulate", "dtype"), [(False, "float16"), (True, "bfloat16")])
@pytest.mark.parametrize("k", [2 * PANEL, 2 * PANEL + 16, 4 * PANEL + 48])
def test_more_inputs_than_a_panel_holds(isa, compiled, rng, k, accumulate, dtype):
    block = isa.lanes * isa.vectors
    check(compiled, rng, LinearShape("deep", 2 * block, k, block, 1, 1, accumulate), 9, dtype)


@either_dtype
def test_one_product_at_a_time(isa, compiled, dtype):
    """Each weight alone, so that no two can be exchanged unnoticed."""
    shape = linear_shape(isa, "bf16", "o", 80)
    weight = (np.arange(shape.n * shape.k).reshape(shape.n, shape.k) % 251 - 125).astype(np.float32)
    bits = bfloat16_bits(weight) if dtype == "bfloat16" else weight.astype(np.float16)
    y = np.zeros((shape.k, shape.n), np.float32)
    x = bfloat16_bits(np.eye(shape.k))
    compiled(linear_bfloat16, shape, dtype)(x, packed_weight(bits, shape), np.ones(shape.n, np.float32), y)
    np.testing.assert_array_equal(y, weight.T)


def test_float16_weights_are_rounded_to_nearest_even(isa, compiled):
    block = isa.lanes * isa.vectors
    shape = LinearShape("one", block, 16, block, 1, 1, False)
    weight = np.zeros((block, 16), np.float16)
    weight[:4, 0] = 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-10, -1 - 2**-8
    x = bfloat16_bits(np.eye(1, 16))
    y = np.zeros((1, block), np.float32)
    compiled(linear_bfloat16, shape, "float16")(x, packed_weight(weight, shape), np.ones(block, np.float32), y)
    assert y[0, :4].tolist() == [1, 1 + 2**-6, 1 + 2**-7, -1]
