"""The passes over a row of logits, at odd vocabularies, against NumPy."""

import numpy as np
import pytest

from ilmari.kernels.sampling import cut_bounds, kept_weights, logit_peaks, logit_weights
from ilmari.kernels.sampling_chunks import CHUNK, LOWEST, STEPS, chunks

VOCABS = (1, 97, 256, 1003, 5000)


@pytest.fixture(params=VOCABS)
def vocab(request):
    return request.param


def rows_of(rng, vocab, spread=3.0, decimals=1):
    """Logits as chunks, some equal, some impossible."""
    rows = np.full((chunks(vocab), CHUNK), LOWEST, np.float32)
    flat = rows.reshape(-1)[:vocab]
    flat[:] = np.round(spread * rng.standard_normal(vocab), decimals)
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


@pytest.mark.parametrize("share", [1e-9, 0.3, 0.8, 0.99, 1.0])
@pytest.mark.parametrize(("decimals", "factor"), [(1, 1.0), (7, 1.0), (7, 20.0), (1, 0.0), (7, 0.0)])
def test_cut(compiled, rng, vocab, decimals, factor, share):
    y = rows_of(rng, vocab, decimals=decimals)
    v = np.exp(np.maximum(y - y.max().astype(np.float64), -90) * factor).astype(np.float32)
    low = -40.0
    target = share * v[y > low].sum(dtype=np.float64) * (1 - 1e-6)
    bounds, beyond = np.full(STEPS + 2, np.nan, np.float32), np.full(STEPS + 2, np.nan)
    bounds[0], bounds[-1], beyond[0], beyond[-1] = low, y.max(), np.inf, 0
    kernel = compiled(cut_bounds, vocab)
    sums = np.full((STEPS + 2, len(y)), np.nan, np.float32)
    kernel(y, v, float(y.max()), factor, target, sums, bounds, beyond)
    least, most = bounds[[0, -1]]
    for bound, above, of_chunks in zip(bounds[[0, -1]], beyond[[0, -1]], sums[[0, -1]], strict=True):
        expected = np.where(y > bound, v, 0).sum(axis=1, dtype=np.float64)
        np.testing.assert_allclose(of_chunks, expected, rtol=1e-6)
        np.testing.assert_allclose(above, expected.sum(), rtol=1e-6)
    assert beyond[0] >= target > beyond[-1]
    assert np.nextafter(least, most) == most or np.count_nonzero((y > least) & (y <= most)) == 1


def test_cut_of_what_is_never_reached(compiled, rng):
    """The search ends at the least bound."""
    y = rows_of(rng, 1003)
    bounds, beyond = np.zeros(STEPS + 2, np.float32), np.zeros(STEPS + 2)
    bounds[0], bounds[-1], beyond[0] = -5, y.max(), np.inf
    sums = np.empty((STEPS + 2, len(y)), np.float32)
    compiled(cut_bounds, 1003)(y, np.ones_like(y), float(y.max()), 0.0, 5000.0, sums, bounds, beyond)
    assert bounds[0] == -5 <= bounds[-1] <= np.nextafter(np.float32(-5), np.float32(0))
    assert beyond[0] == np.inf


@pytest.mark.parametrize("least", [-np.inf, 0.0, 1.5])
@pytest.mark.parametrize("last", [0, 70, 900])
def test_kept(compiled, rng, vocab, least, last):
    y = rows_of(rng, vocab)
    w, total = rng.random(y.shape, np.float32), np.empty(len(y), np.float32)
    compiled(kept_weights, vocab)(y, w, least, last, total)
    ids = np.arange(y.size).reshape(y.shape)
    kept = (y > np.float32(least)) | ((y == np.float32(least)) & (ids <= last))
    np.testing.assert_allclose(total, np.where(kept, w, 0).sum(axis=1, dtype=np.float64), rtol=1e-6)
