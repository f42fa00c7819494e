"""A task of one loop that needs neither a model nor TVM's LLVM build: NumPy says what it must write."""

from __future__ import annotations

import numpy as np

from embbert_tvm.kernels.convert import quantize
from embbert_tvm.tuning.task import Argument, Task


def rounding_task(rows: int = 8) -> Task:
    x = np.random.default_rng(0).uniform(-3, 3, (1, rows, 16)).astype(np.float32)
    levels = np.floor(x[0] * np.float32(40) + np.float32(0.5)).clip(-128, 127).astype(np.int8)
    arguments = (
        Argument(x, None, False),
        Argument(np.asarray([40], np.float32), None, True),
        Argument(np.zeros_like(levels), levels, False),
    )
    return Task("quantize_16", quantize(16), 1, rows, arguments)
