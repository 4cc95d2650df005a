"""SiLU(gate) * up at odd shapes and extreme gates, against plain Python."""

import math

import numpy as np
import pytest

from ilmari.kernels.form import FLOAT32
from ilmari.kernels.layer_input import silu
from ilmari.kernels.silu_multiply import silu_multiply_reference


def test_reference_by_hand():
    gate, up = [2.0, -1.5, 0.0], [0.5, 4.0, 7.0]
    x = np.array([[*gate, *up, math.nan]], np.float32)
    want = [g * (0.5 + 0.5 * math.tanh(g / 2)) * u for g, u in zip(gate, up, strict=True)]
    np.testing.assert_allclose(silu_multiply_reference(x, 3), [want], rtol=1e-14)


@pytest.mark.parametrize(("size", "stride"), [(16, 32), (112, 256)])
def test_silu_multiply(compiled, rng, m, size, stride):
    x = (rng.standard_normal((m, stride)) * 4).astype(np.float32)
    x[:, 2 * size :] = np.nan  # padding is not read
    y = np.full((m, size), np.nan, np.float32)
    compiled(silu, FLOAT32, size, stride)(x, y)
    np.testing.assert_allclose(y, silu_multiply_reference(x, size), rtol=2e-6, atol=1e-37)


def test_extreme_gates(compiled):
    gates = [100, -100, 88, -88, 87, -87, 88.8, -88.8, 1e-30, -1e-30, 0.0, 1e6, -1e6, 3e38, 20, -20]
    x = np.array([[*gates, *[-3.0] * 16]], np.float32)
    y = np.full((1, 16), np.nan, np.float32)
    compiled(silu, FLOAT32, 16, 32)(x, y)
    gate = x[0, :16].astype(np.float64)
    sigmoid = 0.5 * (1 + np.tanh(gate / 2))
    sigmoid[gate < -30] = np.exp(np.maximum(gate[gate < -30], -700))
    with np.errstate(over="ignore"):
        want = (gate * sigmoid * -3).astype(np.float32)
    # Below -88 the exponential is cut off: the result is nothing beside any number a model works with.
    np.testing.assert_allclose(y[0], want, rtol=2e-6, atol=1e-31)
