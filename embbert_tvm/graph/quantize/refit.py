"""Weights of fewer than 8 bits by least squares: what a layer is to give on texts, from inputs that are rounded.

GPTQ (low_bits.py) keeps x W near what the float weights W give for the same x. But x is made by layers that are rounded
themselves. Here W and the bias first become those that bring the float model's sums, of the inputs as they are rounded,
nearest; a ridge, which texts held out choose, keeps them by the given ones. Then they are rounded by GPTQ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from embbert_tvm.graph.quantize.low_bits import Blocks, gptq, nearest
from embbert_tvm.kernels.low_bits import ROWS, WeightFormat

# The ridge in parts of the mean variance of the inputs.
RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
HELD_OUT = 4  # one text of so many chooses the ridge


@dataclass(frozen=True)
class Samples:
    """What a product reads and what it is to give, a row of a text each.

    x: (rows, k), the inputs in their steps.
    target: (rows, n), real, what x times the weights and the bias are to be.
    held_out: (rows,), whether a row's text chooses the ridge.
    """

    x: np.ndarray
    target: np.ndarray
    held_out: np.ndarray

    def error(self, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """What is missing to `target` (rows, n) by real weights (n, k) and bias (n,)."""
        found: np.ndarray = self.target - self.x @ weight.T.astype(self.x.dtype) - bias
        return found


def least_squares(weight: np.ndarray, bias: np.ndarray, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Weights (n, k) and bias (n,) near the given ones that bring `target` nearest; the given ones where texts held out
    see no use in a change."""
    error, held = samples.error(weight, bias), samples.held_out
    if held.all() or not held.any():
        return weight, bias
    least, best, changes = float(np.square(error[held]).sum()), None, _changes(samples.x[~held], error[~held])
    for ridge in RIDGES:
        change, shift = changes(ridge)
        left = error[held] - samples.x[held] @ change.T.astype(samples.x.dtype) - shift
        if (lost := float(np.square(left).sum())) < least:
            least, best = lost, ridge
    if best is None:
        return weight, bias
    change, shift = _changes(samples.x, error)(best)
    return weight + change, bias + shift


def _changes(x: np.ndarray, error: np.ndarray) -> Callable[[float], tuple[np.ndarray, np.ndarray]]:
    """What finds, by a ridge, the changes of weights (n, k) and bias (n,) that take most of `error` (rows, n) away."""
    mean, middle = x.mean(0, dtype=np.float64), error.mean(0, dtype=np.float64)
    centred = x - mean
    covariance, shared = centred.T @ centred / len(x), centred.T @ (error - middle) / len(x)
    unit = max(float(np.diag(covariance).mean()), 1e-12) * np.eye(len(covariance))

    def found(ridge: float) -> tuple[np.ndarray, np.ndarray]:
        change: np.ndarray = np.linalg.solve(covariance + ridge * unit, shared).T
        return change, middle - change @ mean

    return found


def refit(
    weight: np.ndarray, bias: np.ndarray, weight_format: WeightFormat, samples: Samples, finest: float = 0.0
) -> tuple[Blocks, np.ndarray]:
    """Real weights (n, k), whose inputs' scales are folded in, and their bias (n,), refitted and rounded, in scales of
    `finest` or more. Two rows that share blocks have the nearest levels where those leave a lesser squared error."""
    x = samples.x.astype(np.float64)
    refitted, moved = least_squares(weight, bias, samples)
    ours = gptq(refitted, weight_format, x.T @ x / len(x), finest=finest)
    plain = nearest(weight, weight_format, finest=finest)
    biases, lost = [], []
    for blocks, start in ((ours, moved), (plain, bias)):
        error = samples.error(blocks.weight * blocks.scale[:, None], start)
        middle = error.mean(0, dtype=np.float64)
        biases.append(start + middle)
        lost.append(np.square(error - middle).sum(0, dtype=np.float64))
    pairs = [np.add.reduceat(each, np.arange(0, len(each), ROWS)) for each in lost]
    pair = pairs[0] <= pairs[1]
    row = pair.repeat(ROWS)[: len(weight)]
    blocks = Blocks(
        weight_format,
        np.where(row[:, None], ours.levels, plain.levels),
        np.where(pair[:, None], ours.multipliers, plain.multipliers),
        np.where(row, ours.scale, plain.scale),
    )
    return blocks, np.where(row, *biases)
