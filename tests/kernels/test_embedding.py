"""Token embedding: exact rows of the table."""

import ml_dtypes
import numpy as np
import pytest

from ilmari.kernels.embedding import embedding, embedding_reference

VOCAB, HIDDEN = 37, 80


@pytest.fixture
def table(rng):
    """Normal and subnormal numbers, the largest and the smallest, and both zeros."""
    table = (rng.standard_normal((VOCAB, HIDDEN)) * 10 ** rng.uniform(-8, 3, (VOCAB, HIDDEN))).astype(np.float16)
    table[0, :4] = 0.0, -0.0, 65504, -(2.0**-24)
    return table


def test_reference_by_hand(table):
    got = embedding_reference(np.array([5, 0, 36], np.int32), table)
    for row, token in enumerate((5, 0, 36)):
        assert [float(number) for number in got[row]] == [float(number) for number in table[token]]


def test_embedding(compiled, rng, table, m):
    ids = rng.integers(0, VOCAB, m).astype(np.int32)
    ids[0], ids[-1] = VOCAB - 1, 0
    y = np.full((m, HIDDEN), np.nan, np.float32)
    compiled(embedding, VOCAB, HIDDEN, "float16")(ids, table, y)
    want = embedding_reference(ids, table).astype(np.float32)
    np.testing.assert_array_equal(y.view(np.uint32), want.view(np.uint32))


def test_embedding_of_bfloat16(compiled, rng, table, m):
    """The table as its bits, which neither NumPy nor the kernel knows as a type."""
    table = (table.astype(np.float32) * 1e30).astype(ml_dtypes.bfloat16)
    ids = rng.integers(0, VOCAB, m).astype(np.int32)
    y = np.full((m, HIDDEN), np.nan, np.float32)
    compiled(embedding, VOCAB, HIDDEN, "bfloat16")(ids, table.view(np.uint16), y)
    want = table[ids].astype(np.float32)
    np.testing.assert_array_equal(y.view(np.uint32), want.view(np.uint32))
