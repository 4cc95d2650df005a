"""Conversions, the exponential and lane reductions, over every number or a dense sample of them."""

import numpy as np
import pytest
from tvm.script import tirx as T

from ilmari.kernels.numeric import exp, exp_nonpositive, halve, lane_max, lane_sum, widen

SIZE = 4096


def elementwise(isa, function, dtype_in, dtype_out):
    """Y = function(isa, X) in vectors."""
    lanes = isa.lanes

    @T.prim_func
    def kernel(x: T.handle, y: T.handle):
        m = T.int32()
        X = T.match_buffer(x, (m, SIZE), dtype_in)
        Y = T.match_buffer(y, (m, SIZE), dtype_out)
        for i in T.serial(m):
            for j in T.serial(SIZE // lanes):
                Y[i, T.ramp(j * lanes, 1, lanes)] = function(isa, X[i, T.ramp(j * lanes, 1, lanes)])

    return kernel


def widen_half(isa, x):
    return widen(isa, x, "float16")


def widen_byte(isa, x):
    return widen(isa, x, "int8")


@pytest.fixture
def apply(compiled):
    """apply(function, x, dtype): `function` of each number of x, by a kernel."""

    def run(function, x, dtype):
        rows = np.zeros((-(-x.size // SIZE), SIZE), x.dtype)
        rows.ravel()[: x.size] = x.ravel()
        y = np.full(rows.shape, 77, dtype)
        compiled(elementwise, function, x.dtype.name, np.dtype(dtype).name)(rows, y)
        return y.ravel()[: x.size]

    return run


def every_half():
    """All finite float16 numbers, both zeros and all subnormals among them."""
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    return halves[np.isfinite(halves)]


def value_of_half(bits):
    """float16 by its definition (IEEE 754-2008, binary16)."""
    sign, exponent, fraction = bits >> 15, bits >> 10 & 31, bits & 1023
    magnitude = fraction * 2.0**-24 if exponent == 0 else (1024 + fraction) * 2.0 ** (exponent - 25)
    return -magnitude if sign else magnitude


def test_widen_is_exact_for_every_half(apply):
    halves = every_half()
    assert halves.size == 65536 - 2 * 1024
    want = np.array([value_of_half(int(bits)) for bits in halves.view(np.uint16)], np.float32)
    got = apply(widen_half, halves, np.float32)
    np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))  # bits: zeros have signs


def test_widen_is_exact_for_every_byte(apply):
    octets = np.arange(-128, 128).astype(np.int8)
    np.testing.assert_array_equal(apply(widen_byte, octets, np.float32), np.arange(-128, 128))


def test_halve_gives_back_every_half(apply):
    halves = every_half()
    got = apply(halve, halves.astype(np.float32), np.float16)
    np.testing.assert_array_equal(got.view(np.uint16), halves.view(np.uint16))


def test_halve_rounds_to_nearest_even_around_every_tie(apply):
    finite = np.sort(every_half()[every_half() >= 0].astype(np.float32))
    ties = (finite[:-1] + finite[1:]) / 2  # exact in float32
    near = np.concatenate([ties, np.nextafter(ties, np.float32(0)), np.nextafter(ties, np.float32(1e9))])
    near = np.concatenate([near, -near])
    got = apply(halve, near, np.float16)
    np.testing.assert_array_equal(got.view(np.uint16), near.astype(np.float16).view(np.uint16))
    ties_only = apply(halve, ties, np.float16).view(np.uint16)
    assert (ties_only % 2 == 0).all()


def test_halve_agrees_with_numpy_on_random_numbers(apply, rng):
    bits = rng.integers(0, 2**32, 400_000, dtype=np.uint32)
    exponents = rng.integers(100, 146, 400_000, dtype=np.uint32) << 23  # where float16 has its numbers
    x = np.concatenate([bits, bits & 0x807FFFFF | exponents]).view(np.float32)
    x = x[np.isfinite(x)]
    want = np.clip(x, -65504, 65504).astype(np.float16)
    np.testing.assert_array_equal(apply(halve, x, np.float16).view(np.uint16), want.view(np.uint16))


HALVES = {
    "negative zero": (-0.0, 0x8000),
    "largest": (65504.0, 0x7BFF),
    "below the tie with infinity": (65519.0, 0x7BFF),
    "the tie with infinity": (65520.0, 0x7BFF),
    "overflow": (1e30, 0x7BFF),
    "infinity": (np.inf, 0x7BFF),
    "negative overflow": (-70000.0, 0xFBFF),
    "smallest normal": (2.0**-14, 0x0400),
    "largest subnormal": (2.0**-14 - 2.0**-24, 0x03FF),
    "rounds up to normal": (2.0**-14 - 2.0**-26, 0x0400),
    "smallest subnormal": (-(2.0**-24), 0x8001),
    "tie to zero": (2.0**-25, 0x0000),
    "tie to two": (1.5 * 2.0**-24, 0x0002),
    "above the tie to zero": (1.001 * 2.0**-25, 0x0001),
    "float32 subnormal": (-1e-40, 0x8000),
}


def test_halve_at_the_edges(apply):
    values, bits = zip(*HALVES.values(), strict=True)
    got = apply(halve, np.array(values, np.float32), np.float16)
    assert dict(zip(HALVES, got.view(np.uint16).tolist(), strict=True)) == dict(zip(HALVES, bits, strict=True))


def test_exp_is_within_two_units_in_the_last_place(apply, rng):
    x = np.concatenate([np.linspace(-87, 88, 300_001), rng.normal(0, 1, 100_000), np.arange(-125, 127) * np.log(2)])
    x = x[(x >= -87) & (x <= 88)].astype(np.float32)
    want = np.exp(x.astype(np.float64))
    error = np.abs(apply(exp, x, np.float32) - want) / np.spacing(want.astype(np.float32))
    assert error.max() <= 2


def test_exp_far_out(apply):
    x = np.array(
        [0.0, -0.0, -87.0, np.nextafter(np.float32(-87), np.float32(-88)), -200, -1e30, -np.inf, 88], np.float32
    )
    got = apply(exp, x, np.float32)
    assert got[:2].tolist() == [1, 1]  # a softmax over one key is exactly 1
    np.testing.assert_allclose(got[2], np.exp(-87.0), rtol=3e-7)
    assert got[3:7].tolist() == [0, 0, 0, 0]
    np.testing.assert_allclose(got[7], np.exp(88.0), rtol=3e-7)


def test_exp_stays_finite_above_88(apply):
    got = apply(exp, np.array([88.5, 100, 1e30, np.inf], np.float32), np.float32)
    np.testing.assert_allclose(got, np.exp(88.0), rtol=3e-7)


def test_exp_nonpositive(apply, rng):
    x = np.concatenate(
        [np.linspace(-87, 0, 300_001), -np.abs(rng.normal(0, 1, 100_000)), np.arange(-125, 1) * np.log(2)]
    )
    x = x[x >= -87].astype(np.float32)
    want = np.exp(x.astype(np.float64))
    error = np.abs(apply(exp_nonpositive, x, np.float32) / want - 1)
    assert (error <= 3e-7 + 8e-8 * np.abs(x)).all()


def test_exp_nonpositive_at_its_ends(apply):
    got = apply(exp_nonpositive, np.array([0.0, -0.0, -87.8, -200, -1e30, -np.inf], np.float32), np.float32)
    assert got.tolist() == [1, 1, 0, 0, 0, 0]


def reductions(isa):
    lanes = isa.lanes

    @T.prim_func
    def kernel(X: T.Buffer((lanes,), "float32"), Y: T.Buffer((2,), "float32")):
        Y[0] = lane_sum(X, range(lanes))
        Y[1] = lane_max(X, lanes)

    return kernel


def test_reductions_see_every_lane(isa, compiled):
    for lane in range(isa.lanes):
        x, y = np.full(isa.lanes, -3, np.float32), np.zeros(2, np.float32)
        x[lane] = -1
        compiled(reductions)(x, y)
        assert y.tolist() == [-3 * isa.lanes + 2, -1]
