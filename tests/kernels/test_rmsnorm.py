"""Root mean square normalisation at odd shapes, against plain Python."""

import math

import numpy as np
import pytest

from ilmari.kernels.form import FLOAT32
from ilmari.kernels.layer_input import norm
from ilmari.kernels.rmsnorm import rmsnorm_reference

EPS = 1e-5


def test_reference_by_hand():
    x, weight = [3.0, -4.0, 0.5, 0.0], [1.0, 2.0, -1.0, 5.0]
    root = math.sqrt((9 + 16 + 0.25 + 0) / 4 + 1.0)
    want = [a / root * w for a, w in zip(x, weight, strict=True)]
    got = rmsnorm_reference(np.array([x], np.float32), np.array(weight, np.float32), 1.0)
    np.testing.assert_allclose(got, [want], rtol=1e-15)


@pytest.mark.parametrize("hidden", [80, 576])
def test_rmsnorm(compiled, rng, m, hidden):
    x = (rng.standard_normal((m, hidden)) * 10 ** rng.uniform(-3, 3, (m, 1))).astype(np.float32)
    weight = rng.standard_normal(hidden).astype(np.float32)
    y = np.full((m, hidden), np.nan, np.float32)
    compiled(norm, FLOAT32, hidden, EPS)(x, weight, y)
    np.testing.assert_allclose(y, rmsnorm_reference(x, weight, EPS), rtol=1e-6)


def test_extreme_rows(compiled):
    x = np.zeros((4, 80), np.float32)
    x[1] = 1e-20  # whose square is nothing beside eps
    x[2, 17] = 1e18  # one huge number
    x[3] = -60000
    weight = np.linspace(-2, 2, 80, dtype=np.float32)
    y = np.full_like(x, np.nan)
    compiled(norm, FLOAT32, 80, EPS)(x, weight, y)
    assert (y[0] == 0).all()
    np.testing.assert_allclose(y, rmsnorm_reference(x, weight, EPS), rtol=1e-6)
