"""The passes over a row of logits, at odd vocabularies, against NumPy."""

import numpy as np
import pytest

from ilmari.kernels.sampling import kept_weights, logit_peaks, logit_weights, weight_bins
from ilmari.kernels.sampling_chunks import BINS, CHUNK, LOWEST, PARTS, chunks

VOCABS = (1, 97, 256, 1003, 5000)


@pytest.fixture(params=VOCABS)
def vocab(request):
    return request.param


def rows_of(rng, vocab, spread=3.0):
    """Logits as chunks, some equal, some impossible."""
    rows = np.full((chunks(vocab), CHUNK), LOWEST, np.float32)
    flat = rows.reshape(-1)[:vocab]
    flat[:] = np.round(spread * rng.standard_normal(vocab), 1)
    flat[1::5] = -np.inf
    return rows


def test_peaks(compiled, rng, vocab):
    x = rows_of(rng, vocab).reshape(-1)[:vocab].copy()
    y = np.full((chunks(vocab), CHUNK), np.nan, np.float32)
    peak, magnitude = np.empty(chunks(vocab), np.float32), np.empty(chunks(vocab), np.int32)
    compiled(logit_peaks, vocab)(x, y, peak, magnitude)
    np.testing.assert_array_equal(y.reshape(-1)[:vocab], x)
    assert (y.reshape(-1)[vocab:] == np.float32(LOWEST)).all()
    np.testing.assert_array_equal(peak, y.max(axis=1))
    np.testing.assert_array_equal(magnitude.view(np.float32), np.abs(y).max(axis=1))


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 500, 1002])
def test_what_is_not_finite_has_the_greatest_magnitude(compiled, bad, place):
    x = np.zeros(1003, np.float32)
    x[place] = bad
    magnitude = np.empty(chunks(1003), np.int32)
    compiled(logit_peaks, 1003)(x, np.empty((4, CHUNK), np.float32), np.empty(4, np.float32), magnitude)
    assert np.flatnonzero(magnitude >= np.float32(np.inf).view(np.int32)).tolist() == [place // CHUNK]


@pytest.mark.parametrize("temperature", [1e-5, 0.7, 100.0])
def test_weights(compiled, rng, vocab, temperature):
    y = rows_of(rng, vocab)
    w, total = np.full_like(y, np.nan), np.empty(len(y), np.float32)
    compiled(logit_weights, vocab)(y, float(y.max()), 1 / temperature, w, total)
    with np.errstate(over="ignore"):
        expected = np.exp((y.astype(np.float64) - y.max()) / temperature)
    np.testing.assert_allclose(w, expected, rtol=1e-5, atol=1e-37)
    assert (w[y == y.max()] == 1).all()
    np.testing.assert_allclose(total, w.sum(axis=1, dtype=np.float64), rtol=1e-6)


def test_bins(compiled, rng, vocab):
    y = rows_of(rng, vocab)
    w = rng.random(y.shape, np.float32)
    bins, counts, sums = np.empty(y.shape, np.uint8), np.empty((PARTS, BINS), np.int32), np.empty((PARTS, BINS))
    compiled(weight_bins, vocab)(y, w, float(y.max()), 10.7, bins, counts, sums)
    with np.errstate(over="ignore"):
        expected = np.minimum((y.max() - y) * np.float32(10.7), BINS - 1).astype(np.uint8)
    np.testing.assert_array_equal(bins, expected)
    np.testing.assert_array_equal(counts.sum(axis=0), np.bincount(bins.reshape(-1), minlength=BINS))
    np.testing.assert_allclose(sums.sum(axis=0), np.bincount(bins.reshape(-1), w.reshape(-1), BINS), rtol=1e-12)


@pytest.mark.parametrize("least", [-np.inf, 0.0, 1.5])
@pytest.mark.parametrize("last", [0, 70, 900])
def test_kept(compiled, rng, vocab, least, last):
    y = rows_of(rng, vocab)
    w, total = rng.random(y.shape, np.float32), np.empty(len(y), np.float32)
    compiled(kept_weights, vocab)(y, w, least, last, total)
    ids = np.arange(y.size).reshape(y.shape)
    kept = (y > np.float32(least)) | ((y == np.float32(least)) & (ids <= last))
    np.testing.assert_allclose(total, np.where(kept, w, 0).sum(axis=1, dtype=np.float64), rtol=1e-6)
