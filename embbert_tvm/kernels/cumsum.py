"""The running sum over tokens: out[0, i] = x[0, 0] + ... + x[0, i]."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import argument, length, loop, prim_func, store, workspace


@dataclass(frozen=True)
class Cumsum:
    """dtype: of what is summed, and of the sums."""

    dtype: str


def cumsum(spec: Cumsum) -> tirx.PrimFunc:
    """Arguments: x (1, L), out (1, L)."""
    dtype = spec.dtype

    def body() -> None:
        rows = length()
        x, out = argument("x", (1, rows), dtype), argument("out", (1, rows), dtype)
        with T.sblock("scan"):
            total = workspace("total", (1,), dtype)
            store(total, tirx.const(0, dtype), 0)
            with loop("i", rows) as i:
                store(total, total[0] + x[0, i], 0)
                store(out, total[0], 0, i)

    return prim_func(f"cumsum_{dtype}", body)
