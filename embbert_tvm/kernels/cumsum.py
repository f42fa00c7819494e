"""The running sum over tokens: out[0, i] = x[0, 0] + ... + x[0, i]."""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import argument, length, loop, prim_func, store, workspace


def cumsum(dtype: str) -> tirx.PrimFunc:
    """Arguments: x (1, L), out (1, L), both of `dtype`."""

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
