"""Activations to bfloat16: the nearest, halves to even."""

import ml_dtypes
import numpy as np
from packed import bfloat16_bits

from ilmari.kernels.form import BFLOAT16
from ilmari.kernels.layer_input import bfloat16_reference, copy

EDGES = [0.0, -0.0, 1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-8, 255.5, 1e-39, 3e38, -3e38, 2**-126]


def rows(rng, m):
    x = (rng.standard_normal((m, 80)) * 10 ** rng.uniform(-30, 30, (m, 80))).astype(np.float32)
    x[0, : len(EDGES)] = EDGES
    return x


def test_reference_by_hand():
    got = bfloat16_reference(np.array([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8 - 2**-20], np.float32))
    assert got.view(ml_dtypes.bfloat16).astype(float).tolist() == [1, 1 + 2**-6, -1 - 2**-7]


def test_copy_rounds(compiled, rng, m):
    x = rows(rng, m)
    y = np.zeros(x.shape, np.uint16)
    compiled(copy, BFLOAT16, x.shape[1])(x, y)
    np.testing.assert_array_equal(y, bfloat16_bits(x))
    np.testing.assert_array_equal(y, bfloat16_reference(x))
