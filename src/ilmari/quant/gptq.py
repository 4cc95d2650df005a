"""GPTQ: weights rounded one input after the other, each making up for the errors of those before it.

Source: Frantar, Ashkboos, Hoefler and Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", 2022 (arXiv:2210.17323). The paper corrects the inputs that are still to come, by the inverse of
H = X^T X. With H = L L^T and d = W - Q, the error |X d^T|^2 is the sum over inputs j of (sum over i >= j of
d_i L_ij)^2. So if the last input is rounded first, each may be moved, just before it is rounded, so that its own term
would vanish:

    target_j = w_j + sum over i > j of d_i L_ij / L_jj

These are the paper's numbers, without an inverse, and what rounding leaves of the terms is the error of the output.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ilmari.quant.round_to_nearest import LEVELS, round_to_nearest
from ilmari.quant.weight import ScaledWeight

BLOCK = 128
"""Inputs whose corrections by all those before them are one matrix product."""

DAMPING_STEP = 10
"""What damping is multiplied by until the matrix can be factorized."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Factor:
    """A damped Hessian, H[order, order] + diag(added) = L L^T with float64 [k, k] L.

    order: integers [k]; the last of them is rounded first. diagonal: that of L, [k]. steps: row j is column j of L
    divided by L_jj, so upper triangular with ones on the diagonal.
    """

    order: NDArray[np.intp]
    added: Float64
    diagonal: Float64
    steps: Float64

    def output_energy(self, difference: NDArray[np.float32]) -> Float64:
        """What a `difference` [n, k] of weights changes in the output: |X d^T|^2 of each row d, float64 [n]."""
        moved = difference.T[self.order].astype(np.float64)
        energy = np.zeros(len(difference))
        for start in range(0, len(moved), BLOCK):
            stop = start + BLOCK
            terms = self.steps[start:stop, start:] @ moved[start:]
            energy += np.square(self.diagonal[start:stop]) @ np.square(terms, out=terms)
        return self.without_damping(energy, moved)

    def without_damping(self, energy: Float64, moved: Float64) -> Float64:
        """An energy of the damped Hessian as one of H alone; `moved` [k, n] are the differences in `order`."""
        return np.maximum(energy - self.added @ np.square(moved), 0)


def factorize(hessian: Float64, *, damp_percent: float = 0.01, act_order: bool = False) -> Factor:
    """Order, damp and factorize H = X^T X, float64 [k, k], finite.

    An input that was always zero gets a diagonal of 1 and stands alone: it is rounded to nearest. The diagonal is
    raised by `damp_percent` (a fraction, despite the name that it has everywhere) of the mean of the others, and by ten
    times as much until the matrix is positive definite in float64.

    act_order: the inputs with the largest diagonal are rounded first, instead of in their own order.
    """
    diagonal = np.diagonal(hessian)
    dead = diagonal <= 0
    order = np.argsort(diagonal, kind="stable") if act_order else np.arange(len(hessian))[::-1]
    permuted = hessian[np.ix_(order, order)]
    damping = damp_percent * (float(diagonal[~dead].mean()) if not dead.all() else 1.0)
    places = np.diag_indices(len(permuted))
    plain = permuted[places]
    while True:
        added = np.where(dead[order], 1.0, damping)
        permuted[places] = plain + added
        try:
            upper = np.asarray(np.linalg.cholesky(permuted, upper=True), np.float64)
        except np.linalg.LinAlgError:
            damping *= DAMPING_STEP
        else:
            break
    root = upper[places]
    upper /= root[:, None]
    return Factor(order, added, root, upper)


@dataclass(frozen=True)
class Calibrated:
    """A weight [n, k] quantized for the inputs it will meet.

    energy: float64 [n], |X d^T|^2 of what each row lost. clipped: integers [n], how many targets lay beyond the largest
    level by more than rounding.
    """

    weight: ScaledWeight
    energy: Float64
    clipped: NDArray[np.int64]


def gptq(weight: NDArray[np.float32], factor: Factor) -> Calibrated:
    """Symmetric int8 per output channel for `weight` [n, k], with the scales of rounding to nearest."""
    scale = round_to_nearest(weight).scale
    wide_scale = scale.astype(np.float64)
    levels_per_unit = np.divide(1, wide_scale, out=np.zeros_like(wide_scale), where=scale > 0)
    original = weight.T[factor.order].astype(np.float64)
    moved = np.empty_like(original)
    values = np.empty(original.shape, np.int8)
    energy = np.zeros(len(weight))
    clipped = np.zeros(len(weight), np.int64)
    for stop in range(len(original), 0, -BLOCK):
        start = max(stop - BLOCK, 0)
        targets = original[start:stop] + factor.steps[start:stop, stop:] @ moved[stop:]
        for j in range(stop - 1, start - 1, -1):
            target = targets[j - start] + factor.steps[j, j + 1 : stop] @ moved[j + 1 : stop]
            level = np.rint(target * levels_per_unit)
            clipped += np.abs(level) > LEVELS
            np.clip(level, -LEVELS, LEVELS, out=level)
            values[j] = level
            level *= wide_scale
            moved[j] = original[j] - level
            energy += np.square(factor.diagonal[j] * (target - level))
    ordered = np.empty_like(values)
    ordered[factor.order] = values
    return Calibrated(
        ScaledWeight(np.ascontiguousarray(ordered.T), scale), factor.without_damping(energy, moved), clipped
    )
