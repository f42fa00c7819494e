"""What parameters the constants of a simplified graph are made of, so that they follow the parameters in training.

Exporting and simplifying a model transposes its parameters, cuts them into heads and columns, and multiplies them by
numbers that are computed from other parameters. All of that is found again by value: the graph is made of a model whose
parameters are random numbers, no two alike, and a constant that is a block of one of them times a factor is that block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from torch import Tensor

from embbert_tvm.errors import InputError

_TOLERANCE = 2e-5  # of a constant's norm: constants are rounded to float32 once or twice
_LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: x,
    "transposed": lambda x: x.t(),
    "by tap": lambda x: x.permute(2, 1, 0).flatten(0, 1),
}


@dataclass(frozen=True)
class ParameterPart:
    """A block of a parameter times `factor`, and times the parameter `scalar` where that is no None.

    layout: a key of _LAYOUTS, of the parameter without dimensions of 1. axis: what `first` and `count` cut.
    """

    name: str
    layout: str
    axis: int
    first: int
    count: int
    factor: float
    scalar: str | None = None

    def tensor(self, parameter: Callable[[str], Tensor]) -> Tensor:
        x = _LAYOUTS[self.layout](parameter(self.name).squeeze())
        x = x.reshape(1) if x.ndim == 0 else x.narrow(self.axis, self.first, self.count)
        x = x if self.factor == 1 else x * self.factor
        return x if self.scalar is None else x * parameter(self.scalar)


@dataclass(frozen=True)
class Origin:
    """A constant as the sum of blocks of parameters; `fixed`, the constant itself, where no parameter has a part."""

    shape: tuple[int, ...]
    blocks: tuple[ParameterPart, ...] = ()
    fixed: np.ndarray | None = None


@dataclass(frozen=True)
class Parameters:
    """The values that a model's parameters had when its graph was made, by name, with what it says that its export
    computes of them (`TextClassifier.folded`)."""

    values: Mapping[str, np.ndarray]

    def origin(self, constant: np.ndarray, where: str) -> Origin:
        """What a constant is made of. Raises InputError for one that is computed in another way than by a factor."""
        wanted = np.squeeze(constant).astype(np.float64)
        if wanted.ndim == 0 or not np.issubdtype(constant.dtype, np.floating) or np.ptp(wanted) == 0:
            return self._number(constant)
        for whole in (True, False):
            for name, value in self.values.items():
                if (found := _find(name, value, wanted, whole)) is not None:
                    return Origin(constant.shape, (self._named(found),))
        if wanted.ndim == 1 and (pair := self._sum(wanted)) is not None:
            return Origin(constant.shape, tuple(self._named(block) for block in pair))
        raise InputError(f"{where}: a constant of it is computed from the parameters in a way that is not trained")

    def _number(self, constant: np.ndarray) -> Origin:
        same = (n for n, v in self.values.items() if constant.size == v.size == 1 and v.item() == constant.item())
        name = next(same, None)
        if name is None or not np.issubdtype(constant.dtype, np.floating):
            return Origin(constant.shape, fixed=constant)
        return Origin(constant.shape, (ParameterPart(name, "plain", 0, 0, 1, 1.0),))

    def _sum(self, wanted: np.ndarray) -> list[ParameterPart] | None:
        """Two vectors whose weighted sum this is."""
        vectors = {n: np.squeeze(v).astype(np.float64) for n, v in self.values.items() if v.size == wanted.size}
        for names in combinations([name for name, vector in vectors.items() if vector.ndim == 1], 2):
            matrix = np.stack([vectors[name] for name in names], 1)
            factors = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
            if len(wanted) > 2 and _near(matrix @ factors, wanted):
                return [
                    ParameterPart(n, "plain", 0, 0, wanted.size, float(f)) for n, f in zip(names, factors, strict=True)
                ]
        return None

    def _named(self, block: ParameterPart) -> ParameterPart:
        """The block with its factor taken for a parameter of one number, where it is one or its negative."""
        factor = block.factor
        for exact in (1.0, -1.0):
            if math.isclose(factor, exact, rel_tol=_TOLERANCE):
                return ParameterPart(block.name, block.layout, block.axis, block.first, block.count, exact)
            for name, value in self.values.items():
                if value.ndim == 0 and math.isclose(factor, exact * value.item(), rel_tol=_TOLERANCE):
                    return ParameterPart(block.name, block.layout, block.axis, block.first, block.count, exact, name)
        return block


def _near(found: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.linalg.norm(found - wanted) <= _TOLERANCE * np.linalg.norm(wanted))


def _find(name: str, value: np.ndarray, wanted: np.ndarray, whole: bool) -> ParameterPart | None:
    """The block of a parameter that `wanted` is a multiple of. whole: the block is all of the parameter."""
    value = np.squeeze(value)
    layouts = {"plain": value}
    if value.ndim == 2:
        layouts["transposed"] = value.T
    if value.ndim == 3:
        layouts["by tap"] = value.transpose(2, 1, 0).reshape(-1, len(value))
    for layout, view in layouts.items():
        if whole and view.shape == wanted.shape:
            factor = _factor(view.astype(np.float64), wanted)
            if factor is not None:
                return ParameterPart(name, layout, 0, 0, len(view), factor)
        elif not whole:
            for axis in range(view.ndim):
                if (found := _cut(view, wanted, axis)) is not None:
                    return ParameterPart(name, layout, axis, *found)
    return None


def _factor(view: np.ndarray, wanted: np.ndarray) -> float | None:
    square = float((view * view).sum())
    factor = float((view * wanted).sum()) / square if square > 0 else 0.0
    return factor if factor and _near(view * factor, wanted) else None


def _cut(view: np.ndarray, wanted: np.ndarray, axis: int) -> tuple[int, int, float] | None:
    """(first, count, factor) of the block along one axis that `wanted` is a multiple of."""
    lines = np.moveaxis(view, axis, 0)
    blocks = np.moveaxis(wanted, axis, 0) if wanted.ndim == view.ndim else wanted[None]
    count = len(blocks)
    if blocks.shape[1:] != lines.shape[1:] or count > len(lines):
        return None
    # What is longest along the other axes tells one line from another; of a vector it is the window itself.
    if lines.ndim == 1:
        windows, line = np.lib.stride_tricks.sliding_window_view(lines, count), blocks
    else:
        windows, line = lines[: len(lines) - count + 1].reshape(len(lines) - count + 1, -1), blocks[0].reshape(-1)
    windows = windows.astype(np.float64)
    if line.size < 3:
        return None
    factors = windows @ line / np.maximum((windows * windows).sum(1), 1e-300)
    errors = np.linalg.norm(windows * factors[:, None] - line, axis=1)
    first = int(errors.argmin())
    factor = _factor(lines[first : first + count].astype(np.float64), blocks)
    return None if factor is None else (first, count, factor)
