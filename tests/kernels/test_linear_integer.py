"""Linear layers of int8 weights and integer activations, against 64-bit integers."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packed import INTEGER_KERNELS, ROWS, arrays, byte_shape, linear_shape, packed_bytes

from ilmari.kernels.compiler import LINEARS
from ilmari.kernels.form import GROUP, GROUPS, HALVES, PAIRS, WORDS
from ilmari.kernels.linear_groups import linear_groups, linear_int8_reference
from ilmari.kernels.linear_halves import linear_int16_reference
from ilmari.kernels.plan import padded
from ilmari.kernels.quantize_int16 import LEVELS

each_form = pytest.mark.parametrize(("isa", "form"), INTEGER_KERNELS, ids=lambda value: value.name, indirect=["isa"])
LARGEST = {HALVES: LEVELS, PAIRS: LEVELS, WORDS: LEVELS, GROUPS: 127}
REFERENCES = dict.fromkeys((HALVES, PAIRS, WORDS), linear_int16_reference) | {GROUPS: linear_int8_reference}


def isas_with(wanted):
    """The instruction sets that use a form."""
    isas = [isa for isa, form in INTEGER_KERNELS if form is wanted]
    return pytest.mark.parametrize("isa", isas, ids=lambda isa: isa.name, indirect=True)


def random_rows(rng, form, m, k):
    return rng.integers(-LARGEST[form], LARGEST[form] + 1, (m, k))


def random_scale(rng, form, m, k):
    scale = rng.uniform(1e-6, 1e-3, (m, form.parts[2].columns(k)))
    return scale.astype(np.float32)


def random_weight(rng, n, k):
    return rng.integers(-128, 128, (n, k)).astype(np.int8)


def reference(form, x, weight, scale, channel_scale):
    return REFERENCES[form](x, weight, scale if form is GROUPS else scale[:, 0], channel_scale)


def run(kernel, form, isa, shape, x, weight, scale, channel_scale, before):
    y = before.copy()
    kernel(*arrays(form, isa, x, scale), packed_bytes(weight, shape, isa), channel_scale, y)
    return y


def check(kernel, form, isa, shape, rng, x, weight, rows=None):
    """Error within float32's rounding of the partial sums: of all rows of x, or of its first, for each of `rows`."""
    m = len(x)
    channel_scale = rng.uniform(0.001, 0.01, shape.n).astype(np.float32)
    scale = random_scale(rng, form, m, shape.k)
    before = rng.standard_normal((m, shape.n)).astype(np.float32)
    if not shape.accumulate:
        before += np.nan
    want = reference(form, x, weight, scale, channel_scale)
    magnitude = reference(form, np.abs(x), np.abs(weight.astype(np.int64)), scale, channel_scale)
    if shape.accumulate:
        want, magnitude = want + before, magnitude + np.abs(before)
    packed = packed_bytes(weight, shape, isa)
    for count in rows or [m]:
        y = before[:count].copy()
        kernel(*arrays(form, isa, x[:count], scale[:count]), packed, channel_scale, y)
        assert (np.abs(y - want[:count]) <= 1e-6 * magnitude[:count] + 1e-30).all(), count


@each_form
@pytest.mark.parametrize(("name", "hidden"), [("o", 96), ("down", 160), ("head", 96)])
def test_linear(isa, form, compiled, rng, name, hidden):
    shape = linear_shape(isa, "w8a16", name, hidden)
    x, weight = random_rows(rng, form, max(ROWS), shape.k), random_weight(rng, shape.n, shape.k)
    check(compiled(LINEARS[form], shape), form, isa, shape, rng, x, weight, ROWS)


@each_form
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.integers(1, 20), min_size=2, max_size=4, unique=True),
    n=st.integers(1, 200),
    k=st.integers(1, 700),
    accumulate=st.booleans(),
    seed=st.integers(0),
)
def test_any_shape(isa, form, compiled, rows, n, k, accumulate, seed):
    shape = byte_shape(isa, n, padded(k, 32), accumulate, isa.vectors if seed % 2 else 1)
    rng = np.random.default_rng(seed)
    x, weight = random_rows(rng, form, max(rows), shape.k), random_weight(rng, shape.n, shape.k)
    check(compiled(LINEARS[form], shape), form, isa, shape, rng, x, weight, rows)


@each_form
def test_many_rows(isa, form, compiled, rng):
    """More rows than are kept in cache at once, more inputs than are summed in integers, or are in a panel."""
    shape = byte_shape(isa, 128, 2208, True)
    x, weight = random_rows(rng, form, 523, shape.k), random_weight(rng, shape.n, shape.k)
    check(compiled(LINEARS[form], shape), form, isa, shape, rng, x, weight)


@each_form
def test_one_product_at_a_time(isa, form, compiled):
    """Each weight alone, so that no two can be exchanged unnoticed."""
    shape = linear_shape(isa, "w8a16", "head", 96)
    weight = (np.arange(shape.n * shape.k).reshape(shape.n, shape.k) % 251 - 125).astype(np.int8)
    ones = np.ones(shape.n, np.float32)
    for unit in (1, 100, LARGEST[form]):
        x = np.eye(shape.k, dtype=np.int64) * unit
        scale = np.ones((shape.k, form.parts[2].columns(shape.k)), np.float32)
        y = run(
            compiled(LINEARS[form], shape), form, isa, shape, x, weight, scale, ones, np.zeros((shape.k, shape.n), "f4")
        )
        np.testing.assert_array_equal(y, weight.T.astype(np.float32) * unit)


@each_form
def test_the_largest_sums_fit(isa, form, compiled):
    """Every activation and weight at its extreme over 16,384 inputs: no sum leaves its integer."""
    block = isa.lanes * isa.vectors
    shape = byte_shape(isa, block, 16384, False)
    alternate = np.arange(shape.k) % 2
    largest = LARGEST[form]
    extremes = [largest, -largest, -1, 0, largest // 256 * 256, 127, -128 if form is not GROUPS else -127]
    signs = 2 * alternate - 1
    x = np.stack([*(np.full(shape.k, value) for value in extremes), largest * signs, -largest * signs])
    weights = [np.full(shape.k, 127), np.full(shape.k, -128), 255 * alternate - 128, 127 - 255 * alternate]
    weight = np.tile(np.stack(weights), (block // len(weights), 1)).astype(np.int8)
    ones = np.ones(block, np.float32)
    scale = np.ones((len(x), form.parts[2].columns(shape.k)), np.float32)
    y = run(
        compiled(LINEARS[form], shape), form, isa, shape, x, weight, scale, ones, np.zeros((len(x), block), np.float32)
    )
    want = x @ weight.astype(np.int64).T
    assert np.abs(want).max() == largest * 128 * 16384
    np.testing.assert_allclose(y, want, rtol=1e-6)


@each_form
def test_a_row_of_zeros_gives_zeros(isa, form, compiled, rng):
    shape = linear_shape(isa, "w8a16", "head", 96)
    x, weight = random_rows(rng, form, 7, shape.k), random_weight(rng, shape.n, shape.k)
    x[[2, 6]] = 0
    ones = np.ones(shape.n, np.float32)
    scale = np.ones((7, form.parts[2].columns(shape.k)), np.float32)
    before = np.full((7, shape.n), np.nan, np.float32)
    y = run(compiled(LINEARS[form], shape), form, isa, shape, x, weight, scale, ones, before)
    assert (y[[2, 6]] == 0).all()
    np.testing.assert_allclose(y[3], x[3] @ weight.astype(np.int64).T, rtol=1e-6, atol=10)


@isas_with(PAIRS)
def test_both_forms_of_16_bits_give_the_same_bits(isa, compiled, rng):
    """So a token's logits do not depend on how many others were computed with it."""
    shape = byte_shape(isa, 128, 1120, True)
    x, weight = random_rows(rng, PAIRS, 9, shape.k), random_weight(rng, shape.n, shape.k)
    scale, channel_scale = random_scale(rng, PAIRS, 9, shape.k), rng.uniform(0.001, 0.01, shape.n).astype(np.float32)
    before = rng.standard_normal((9, shape.n)).astype(np.float32)
    few, many = (
        run(compiled(LINEARS[form], shape), form, isa, shape, x, weight, scale, channel_scale, before)
        for form in (HALVES, PAIRS)
    )
    np.testing.assert_array_equal(few, many)


@isas_with(GROUPS)
def test_groups_have_scales_of_their_own(isa, compiled):
    """One input of each group, scales that differ: each product with its own."""
    shape = byte_shape(isa, isa.lanes, 4 * GROUP + 32, False, 1)
    weight = np.ones((shape.n, shape.k), np.int8)
    x = np.zeros((1, shape.k), np.int64)
    x[0, ::GROUP] = 1
    scale = np.float32([[1, 10, 100, 1000, 10000]])
    ones = np.ones(shape.n, np.float32)
    y = run(
        compiled(linear_groups, shape), GROUPS, isa, shape, x, weight, scale, ones, np.zeros((1, shape.n), np.float32)
    )
    assert (y == 11111).all()
