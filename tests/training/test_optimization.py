"""The learning rate's course."""

from __future__ import annotations

import pytest
import torch

from embbert_tvm.training.optimization import set_rate


def rates(warmup: int, total: int, schedule: str = "linear") -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    found = []
    for step in range(total):
        set_rate(optimizer, 2.0, step, warmup, total, schedule)
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize(
    ("warmup", "total", "expected"),
    [
        (2, 10, [1.0, 2.0, 2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5, 0.25]),
        (0, 4, [2.0, 1.5, 1.0, 0.5]),
        # A warm-up longer than a fifth of a short run is cut to that fifth: the run is not spent on it.
        (500, 10, [1.0, 2.0, 2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5, 0.25]),
        (500, 4, [2.0, 1.5, 1.0, 0.5]),
    ],
)
def test_up_then_down_to_zero(warmup, total, expected):
    assert rates(warmup, total) == pytest.approx(expected)


def test_a_constant_rate():
    assert rates(3, 9, "constant") == [2.0] * 9
