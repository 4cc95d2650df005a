"""GPTQ against the paper's algorithm, column by column with an explicit inverse, in float64."""

import numpy as np
import pytest
from numpy.typing import NDArray

from ilmari.quant.gptq import BLOCK, factorize, gptq
from ilmari.quant.hessian import Hessian
from ilmari.quant.round_to_nearest import round_to_nearest
from ilmari.quant.weight import ScaledWeight

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

SIZES = [(1, 1), (5, 3), (40, 70), (17, BLOCK), (23, BLOCK + 1), (9, 2 * BLOCK + 45)]


def inputs(rng: np.random.Generator, rows: int, k: int) -> Float32:
    """Rows of correlated inputs, of very different sizes."""
    mixed = rng.standard_normal((rows, k)) @ (np.eye(k) + rng.standard_normal((k, k)) / 4)
    return (mixed * np.exp(rng.standard_normal(k))).astype(np.float32)


def problem(n: int, k: int, seed: int = 0) -> tuple[Float32, Float32]:
    """A weight [n, k], and inputs [rows, k]."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, k)).astype(np.float32), inputs(rng, 3 * k + 5, k)


def square(x: Float32) -> Float64:
    return x.astype(np.float64).T @ x.astype(np.float64)


def straightforward(weight: Float32, hessian: Float64, damp_percent: float, act_order: bool) -> NDArray[np.int64]:
    """Quantize the inputs one after the other; each time, move all that are left by the inverse of their Hessian."""
    k = len(hessian)
    scale = (np.abs(weight).max(axis=1) / np.float32(127)).astype(np.float64)
    order = np.argsort(-np.diagonal(hessian)) if act_order else np.arange(k)
    left = weight[:, order].astype(np.float64)
    damped = (hessian + damp_percent * np.diagonal(hessian).mean() * np.eye(k))[np.ix_(order, order)]
    levels = np.empty(left.shape, np.int64)
    for j in range(k):
        inverse = np.linalg.inv(damped[j:, j:])
        levels[:, j] = np.clip(np.round(left[:, j] / scale), -127, 127)
        error = (left[:, j] - levels[:, j] * scale) / inverse[0, 0]
        left[:, j:] -= np.outer(error, inverse[0])
    result = np.empty_like(levels)
    result[:, order] = levels
    return result


def output_error(x: Float32, weight: Float32, quantized: ScaledWeight) -> Float64:
    """|X d^T|^2 of each row."""
    lost = weight - quantized.values * quantized.scale[:, None].astype(np.float64)
    error: Float64 = np.square(x.astype(np.float64) @ lost.T).sum(axis=0)
    return error


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize(("n", "k"), SIZES)
def test_same_integers(n: int, k: int, act_order: bool) -> None:
    weight, x = problem(n, k)
    result = gptq(weight, factorize(square(x), damp_percent=0.02, act_order=act_order))
    assert result.weight.values.dtype == np.int8
    assert np.array_equal(result.weight.values, straightforward(weight, square(x), 0.02, act_order))
    assert np.array_equal(result.weight.scale, round_to_nearest(weight).scale)


@pytest.mark.parametrize("act_order", [False, True])
def test_energies_are_output_errors(act_order: bool) -> None:
    weight, x = problem(31, BLOCK + 77)
    factor = factorize(square(x), act_order=act_order)
    result, rounded = gptq(weight, factor), round_to_nearest(weight)
    assert result.energy == pytest.approx(output_error(x, weight, result.weight), rel=1e-6)
    by_rounding = factor.output_energy(weight - rounded.values * rounded.scale[:, None])
    assert by_rounding == pytest.approx(output_error(x, weight, rounded), rel=1e-4)
    assert result.energy.sum() < 0.7 * by_rounding.sum()


def test_independent_inputs_are_rounded_to_nearest() -> None:
    weight, _ = problem(8, 200)
    diagonal = np.diag(np.random.default_rng(1).random(200))
    result = gptq(weight, factorize(diagonal))
    assert np.array_equal(result.weight.values, round_to_nearest(weight).values)
    assert not result.clipped.any()


@pytest.mark.parametrize("act_order", [False, True])
def test_dead_inputs(act_order: bool) -> None:
    """Inputs that are always zero are rounded to nearest, and the others do not notice them."""
    weight, x = problem(12, 150)
    dead = np.random.default_rng(2).random(150) < 0.3
    x[:, dead] = 0
    whole = gptq(weight, factorize(square(x), act_order=act_order)).weight
    assert np.array_equal(whole.values[:, dead], round_to_nearest(weight).values[:, dead])
    # The largest of each row alive, so that both have the same scales.
    alive = weight[:, ~dead]
    alive[:, 0] = weight[:, ~dead][:, 0] = np.abs(weight).max(axis=1)
    weight[:, np.flatnonzero(~dead)[0]] = alive[:, 0]
    whole = gptq(weight, factorize(square(x), act_order=act_order)).weight
    without = gptq(alive, factorize(square(x[:, ~dead]), act_order=act_order)).weight
    assert np.array_equal(whole.values[:, ~dead], without.values)


def test_nothing_alive() -> None:
    weight, _ = problem(4, 20)
    result = gptq(weight, factorize(np.zeros((20, 20))))
    assert np.array_equal(result.weight.values, round_to_nearest(weight).values)
    assert not result.energy.any()


@pytest.mark.parametrize("rank", [1, 3, 20])
def test_singular(rank: int) -> None:
    """Fewer samples than inputs, with damping too small to help: it is raised until the matrix can be factorized."""
    weight, x = problem(16, 160)
    few = np.ascontiguousarray(x[:rank])
    hessian = (few.T @ few).astype(np.float64)
    result = gptq(weight, factorize(hessian, damp_percent=1e-18))
    rounded = round_to_nearest(weight)
    assert output_error(few, weight, result.weight).sum() < 0.1 * output_error(few, weight, rounded).sum()


def test_rows_of_zeros_and_clipping() -> None:
    """A row of zeros stays zero; where corrections lead beyond the largest level, the level is kept and counted."""
    weight = np.array([[0, 0], [1, -1], [126.4 / 127, 1], [126.4 / 127, -1]], np.float32)
    common = np.random.default_rng(3).standard_normal(100)
    hessian = square(np.stack([5 * common, common], axis=1).astype(np.float32))
    result = gptq(weight, factorize(hessian, damp_percent=1e-6))
    assert result.weight.values.tolist() == [[0, 0], [127, -127], [126, 127], [126, -125]]
    assert result.weight.scale[0] == 0
    assert result.clipped.tolist() == [0, 0, 1, 0]


def test_accumulated_in_batches() -> None:
    _, x = problem(1, 90)
    hessian = Hessian(90)
    for start in range(0, len(x), 50):
        hessian.add(x[start : start + 50])
    assert hessian.finite
    assert hessian.matrix == pytest.approx(square(x), rel=1e-4, abs=1e-4 * np.abs(square(x)).max())


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e30])
def test_not_finite(value: float) -> None:
    hessian = Hessian(4)
    x = np.ones((3, 4), np.float32)
    x[1, 2] = value
    with np.errstate(all="ignore"):
        hessian.add(x)
    assert not hessian.finite
