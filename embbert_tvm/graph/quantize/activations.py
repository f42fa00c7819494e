"""Functions of one real that a 256-entry table computes exactly as well as int8 can."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

_erf = np.vectorize(math.erf, otypes=[float])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nn.silu": lambda x: x * _sigmoid(x),
    "nn.relu": lambda x: np.maximum(x, 0),
    "nn.gelu": lambda x: x / 2 * (1 + _erf(x / math.sqrt(2))),
    "nn.gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "nn.softplus": lambda x: np.logaddexp(x, 0),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
}


def table(function: str, scale_in: float, scale_out: float) -> np.ndarray:
    """int8 (256,): entry i is function((i - 128) * scale_in) in steps of scale_out."""
    values = FUNCTIONS[function]((np.arange(256) - 128) * scale_in)
    return np.clip(np.rint(values / scale_out), -127, 127).astype(np.int8)
