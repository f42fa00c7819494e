"""The problems that training `ngrams` solves: logistic regression on sparse counts, of full or of low rank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embbert_tvm.data.ngrams import Bags

_TEXTS = 2048  # whose features are counted together
_STRENGTH_OF_START = 10.0  # of the full rank that a low one starts from
_LEAST_CHANGE = 1e-10  # of a loss of about 1: after a new strength the first step, down the gradient, is short
_STEPS = 40  # of L-BFGS for each strength, from the weights of the one before


def frequency_weights(bags: Bags, buckets: int) -> Tensor:
    """ln((1 + texts) / (1 + texts with the bucket)) + 1, float32 (buckets,): how freely a bucket's weight may grow."""
    texts = _texts_with(bags, np.zeros(len(bags), np.int64), buckets, 1)[:, 0]
    return torch.from_numpy((np.log((1 + len(bags)) / (1 + texts)) + 1).astype(np.float32))


def ratio_weights(bags: Bags, targets: np.ndarray, buckets: int, labels: int) -> Tensor:
    """Root of the mean over labels of |ln(p / q)|, float32 (buckets,): how unlike the labels' use of a bucket is.

    p: the share of a label's texts that have the bucket, one more text with it and one without; q: of all others.
    After Wang and Manning, "Baselines and Bigrams" (2012), whose ratios of two labels are features' values.
    """
    found = _texts_with(bags, targets, buckets, labels)
    texts = np.bincount(targets, minlength=labels)
    others = found.sum(1, keepdims=True) - found
    ratios = np.log((found + 1) / (texts + 2)) - np.log((others + 1) / (texts.sum() - texts + 2))
    return torch.from_numpy(np.sqrt(np.abs(ratios).mean(1)).astype(np.float32))


def _texts_with(bags: Bags, targets: np.ndarray, buckets: int, labels: int) -> np.ndarray:
    """How many texts of each label have a bucket, int64 (buckets, labels)."""
    found = np.zeros(buckets * labels, np.int64)
    for row, column, _ in _counted(bags, buckets):
        found += np.bincount(column * np.int64(labels) + targets[row], minlength=len(found))
    return found.reshape(buckets, labels)


def _counted(bags: Bags, buckets: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Text (int32), bucket (int32) and how often the text has it (float32), text after text, some texts at a time."""
    for first in range(0, len(bags), _TEXTS):
        starts = bags.starts[first : first + _TEXTS + 1]
        owners = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        keys = owners * np.int64(buckets) + bags.buckets[starts[0] : starts[-1]]
        keys, times = np.unique(keys, return_counts=True)
        row, column = np.divmod(keys, buckets)
        yield (row + first).astype(np.int32), column.astype(np.int32), times.astype(np.float32)


@dataclass(frozen=True)
class SparseTexts:
    """A sparse matrix (texts, buckets) by its rows, and by its columns: products with either are sums of rows."""

    rows: tuple[Tensor, Tensor, Tensor]  # column of each value, where each row starts, values
    columns: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def of(cls, bags: Bags, weights: Tensor) -> SparseTexts:
        """count * weight / sqrt(features of the text)."""
        buckets, counts = len(weights), np.diff(bags.starts)
        row, column, times = (np.concatenate(x) for x in zip(*_counted(bags, buckets), strict=True))
        values = times / np.sqrt(np.maximum(counts, 1).astype(np.float32))[row] * weights.numpy()[column]
        order = np.argsort(column, kind="stable")
        return cls(
            _by_rows(row, column, values, len(bags)), _by_rows(column[order], row[order], values[order], buckets)
        )

    def times(self, x: Tensor) -> Tensor:
        return _sums(self.rows, x)

    def transposed_times(self, x: Tensor) -> Tensor:
        return _sums(self.columns, x)


def _by_rows(row: np.ndarray, column: np.ndarray, values: np.ndarray, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))[:-1]]).astype(np.int32)
    return torch.from_numpy(column), torch.from_numpy(starts), torch.from_numpy(values.astype(np.float32))


def _sums(matrix: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
    index, starts, values = matrix
    return F.embedding_bag(index, x, starts, mode="sum", per_sample_weights=values)


class Problem(Protocol):
    """A loss of parameters in one tensor. `parts`: weights (buckets, columns), bias, and the projection or None."""

    def start(self) -> Tensor: ...
    def parts(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor | None]: ...
    def loss_and_gradient(self, parameters: Tensor, held: float) -> tuple[Tensor, Tensor]: ...
    @property
    def texts(self) -> int: ...


def minimize(problem: Problem, start: Tensor, strength: float) -> Tensor:
    """The parameters after at most `_STEPS` steps of L-BFGS. strength: 1 / (L2 weight x texts)."""
    held = 1 / (strength * problem.texts)
    parameters = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [parameters], max_iter=_STEPS, history_size=8, tolerance_change=_LEAST_CHANGE, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        with torch.no_grad():
            loss, parameters.grad = problem.loss_and_gradient(parameters.detach(), held)
        return loss

    optimizer.step(closure)
    return parameters.detach()


class FullRank:
    """Mean cross-entropy of texts plus half the L2 weight times the squares; parameters (buckets + 1, columns)."""

    def __init__(self, matrix: SparseTexts, targets: Tensor, buckets: int, columns: int) -> None:
        self._matrix, self._targets, self._buckets = matrix, targets, buckets
        self._wanted = F.one_hot(targets, columns).float() if columns > 1 else (targets == 1).float()[:, None]

    @property
    def texts(self) -> int:
        return len(self._targets)

    def start(self) -> Tensor:
        return torch.zeros(self._buckets + 1, self._wanted.shape[1])

    def parts(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        return parameters[:-1], parameters[-1], None

    def loss_and_gradient(self, parameters: Tensor, held: float) -> tuple[Tensor, Tensor]:
        weights, bias = parameters[:-1], parameters[-1]
        z = self._matrix.times(weights) + bias
        if self._wanted.shape[1] > 1:
            loss, found = F.cross_entropy(z, self._targets), z.softmax(1)
        else:
            loss, found = F.binary_cross_entropy_with_logits(z, self._wanted), z.sigmoid()
        error = (found - self._wanted) / len(self._targets)
        by_weights = self._matrix.transposed_times(error) + held * weights
        return loss + held / 2 * (weights * weights).sum(), torch.cat([by_weights, error.sum(0, keepdim=True)])


class LowRank:
    """The same with weights that are a product of (buckets, rank) and (rank, columns), both held down.

    It starts from the best such product of a full-rank solution's weights; the parameters are one flat vector.
    """

    def __init__(self, matrix: SparseTexts, targets: Tensor, buckets: int, columns: int, rank: int) -> None:
        self._matrix, self._targets = matrix, targets
        self._shape = (buckets, rank, columns)
        self._wanted = F.one_hot(targets, columns).float()

    @property
    def texts(self) -> int:
        return len(self._targets)

    def start(self) -> Tensor:
        buckets, rank, columns = self._shape
        full = FullRank(self._matrix, self._targets, buckets, columns)
        weights, bias, _ = full.parts(minimize(full, full.start(), _STRENGTH_OF_START))
        left, sizes, right = torch.linalg.svd(weights, full_matrices=False)
        roots = sizes[:rank].sqrt()
        return torch.cat([(left[:, :rank] * roots).flatten(), (roots[:, None] * right[:rank]).flatten(), bias])

    def parts(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        buckets, rank, columns = self._shape
        left, right, bias = parameters.split([buckets * rank, rank * columns, columns])
        return left.view(buckets, rank), bias, right.view(rank, columns)

    def loss_and_gradient(self, parameters: Tensor, held: float) -> tuple[Tensor, Tensor]:
        left, bias, right = self.parts(parameters)
        assert right is not None
        reduced = self._matrix.times(left)
        z = reduced @ right + bias
        error = (z.softmax(1) - self._wanted) / len(self._targets)
        gradients = (
            self._matrix.transposed_times(error @ right.T) + held * left,
            reduced.T @ error + held * right,
            error.sum(0),
        )
        loss = F.cross_entropy(z, self._targets) + held / 2 * ((left * left).sum() + (right * right).sum())
        return loss, torch.cat([x.flatten() for x in gradients])
