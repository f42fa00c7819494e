"""Weights of fewer than 8 bits: integer levels times a small integer a block, which together are int8 weights.

A weight of row j and column k in block b is `level * m[b] * scale[j]`: `level` one of its format's, m[b] an
integer from 1 to `most`, scale[j] the real scale of the row (one a table). A block is two neighbouring rows by `block`
columns. `level * m` is an int8, and everything after it is the arithmetic of int8 weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from embbert_tvm.kernels.low_bits import ROWS, WeightFormat

# By the square error that they leave, a row's scales in parts of its largest weight's.
_SHRUNK = np.linspace(1.0, 0.35, 27)
_DAMP = 0.01
_AT_ONCE = 2**14  # weights of a search for multipliers, that a cache holds with what is made of them


@dataclass(frozen=True)
class Blocks:
    """Levels (n, k) of a format, the multipliers of its blocks (ceil(n / 2), ceil(k / block)), a scale a row (n,)."""

    format: WeightFormat
    levels: np.ndarray
    multipliers: np.ndarray
    scale: np.ndarray

    @property
    def weight(self) -> np.ndarray:
        """int8 (n, k): `weight * scale` is what the rounded weights are worth."""
        return (self.levels * self.spread()).astype(np.int8)

    def spread(self) -> np.ndarray:
        """The multiplier of every weight (n, k)."""
        n, k = self.levels.shape
        return spread(self.multipliers, n, k, self.format.block or k)


def spread(multipliers: np.ndarray, n: int, k: int, block: int) -> np.ndarray:
    return multipliers.repeat(ROWS, 0)[:n].repeat(block, 1)[:, :k]


def fit_scales(
    weight: np.ndarray, weight_format: WeightFormat, *, shared: bool = False, finest: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The scale of each row (n,) of real weights (n, k) and the multiplier of each block that leave the least square
    error, of a grid of scales. shared: one scale for all rows, as a table has. finest: the least of scales."""
    weight = weight.astype(np.float64)
    n, k = weight.shape
    block = weight_format.block or k
    pairs, columns = -(-n // ROWS), -(-k // block)
    padded = np.full((pairs * ROWS, columns * block), np.nan)  # no error is counted there: not every format has a 0
    padded[:n, :k] = weight
    tiles = padded.reshape(pairs, ROWS, columns, block)
    peak = np.nan_to_num(np.abs(tiles)).max(axis=(2, 3))
    if shared:
        peak = np.full_like(peak, peak.max(initial=0.0))
    peak[peak == 0] = 1.0
    options = range(1, weight_format.most + 1) if weight_format.block else (weight_format.most,)
    best = None
    for shrunk in _SHRUNK:
        scale = np.maximum(shrunk * peak / (weight_format.peak * weight_format.most), finest)
        chosen, error = _multipliers(tiles, scale, options, weight_format)
        error = error.sum(1)
        if shared:
            error = np.full_like(error, error.sum())
        found = scale, chosen, error
        if best is None:
            best = found
            continue
        better = error < best[2]
        best = tuple(
            np.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old) for new, old in zip(found, best, strict=True)
        )
    scale, multipliers, _ = best
    return scale.reshape(-1)[:n], multipliers.astype(np.uint8)


def _multipliers(
    tiles: np.ndarray, scale: np.ndarray, options: Sequence[int], weight_format: WeightFormat
) -> tuple[np.ndarray, np.ndarray]:
    """The multiplier of each block of `tiles` (pairs, ROWS, columns, block) that leaves the least square error by the
    rows' scales (pairs, ROWS), and that error, (pairs, columns) each."""
    chosen, least = [], []
    at_once = max(1, _AT_ONCE // max(1, tiles[:1].size))
    for start in range(0, len(tiles), at_once):
        part = tiles[start : start + at_once]
        total, errors = np.nansum if np.isnan(part).any() else np.sum, []
        for m in options:
            step = (scale[start : start + at_once] * m)[:, :, None, None]
            errors.append(total((weight_format.to_levels(part / step) * step - part) ** 2, axis=(1, 3)))
        stacked = np.stack(errors)
        chosen.append(np.asarray(options)[stacked.argmin(0)])
        least.append(stacked.min(0))
    return np.concatenate(chosen), np.concatenate(least)


def nearest(weight: np.ndarray, weight_format: WeightFormat, *, shared: bool = False, finest: float = 0.0) -> Blocks:
    """Real weights (n, k) rounded to the nearest levels, in scales of `finest` or more."""
    scale, multipliers = fit_scales(weight, weight_format, shared=shared, finest=finest)
    n, k = weight.shape
    step = scale[:, None] * spread(multipliers, n, k, weight_format.block or k)
    return Blocks(weight_format, weight_format.to_levels(weight / step).astype(np.int8), multipliers, scale)


def gptq(
    weight: np.ndarray, weight_format: WeightFormat, hessian: np.ndarray, *, shared: bool = False, finest: float = 0.0
) -> Blocks:
    """Real weights (n, k) rounded one column after the other, each rounding error met by the columns still to come, so
    that what the rows give for inputs x of `hessian` = E[x x^T] (k, k) changes little (GPTQ); a row
    for which the nearest levels change it less has those."""
    plain = nearest(weight, weight_format, shared=shared, finest=finest)
    n, k = weight.shape
    step = plain.scale[:, None] * plain.spread()
    diagonal = np.diag(hessian)
    damped = hessian + np.eye(k) * max(_DAMP * diagonal.mean(), 1e-12)
    order = np.argsort(-diagonal, kind="stable")
    # The upper Cholesky factor of the inverse: row i holds what an error in column i asks of the later ones.
    inverse = np.linalg.inv(damped[np.ix_(order, order)])
    upper = np.linalg.cholesky((inverse + inverse.T) / 2).T
    left, levels = weight.astype(np.float64)[:, order], np.zeros((n, k), np.int8)
    for i, column in enumerate(order):
        levels[:, column] = weight_format.to_levels(left[:, i] / step[:, column])
        error = (left[:, i] - levels[:, column] * step[:, column]) / upper[i, i]
        left[:, i + 1 :] -= np.outer(error, upper[i, i + 1 :])
    costs = []
    for candidate in (levels, plain.levels):
        error = candidate * step - weight
        costs.append(((error @ hessian) * error).sum(1))
    return replace(plain, levels=np.where((costs[0] < costs[1])[:, None], levels, plain.levels))
