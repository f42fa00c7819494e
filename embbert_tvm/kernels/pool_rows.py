"""The mean of neighbouring rows: fewer rows, each of several.

n(i) = min(size, L - i * stride)                            the rows of the i-th window that there are
t[i, k] = sum_{j < n(i)} x[i * stride + j, k] * 2^BITS
out[i, k] = saturate(multiply_high(t[i, k], multiplier[n(i) - 1]))
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import argument, i32, length, loop, prim_func, store, workspace
from embbert_tvm.kernels.fixed_point import multiply_high, saturate
from embbert_tvm.kernels.layouts import ROWS

BITS = 15
MOST = 256  # rows of a window, whose sum of int8 times 2^BITS is an int32


@dataclass(frozen=True)
class PoolRows:
    """size: rows of a window; stride: from one window to the next; width: of a row. x is read as ALL."""

    size: int
    stride: int
    width: int

    @property
    def name(self) -> str:
        stride = "" if self.stride == self.size else f"_by_{self.stride}"
        return f"pool_rows_{self.size}{stride}_{self.width}"

    @property
    def in_blocks(self) -> bool:
        """Whether windows lie side by side, each in one block of four rows."""
        return self.size == self.stride and ROWS % self.size == 0

    def mean(self, total, multiplier):
        """An element of out, from the sum of a window's rows, int32."""
        return saturate(multiply_high(total * i32(2**BITS), multiplier))


def pool_rows(spec: PoolRows) -> tirx.PrimFunc:
    """Arguments: x int8 (L, width); multiplier int32 (size,), by how many rows a window has; out int8 (M, width), where
    window M - 1 begins before row L."""

    def body() -> None:
        rows, made = length(), length("M")
        x = argument("x", (rows, spec.width), "int8")
        multiplier = argument("multiplier", (spec.size,), "int32")
        out = argument("out", (made, spec.width), "int8")
        with T.sblock("pool_rows"):
            total = workspace("total", (1,), "int32")
            with loop("i", made) as i, loop("k", spec.width) as k:
                there = tirx.min(i32(spec.size), i32(rows - i * spec.stride))
                store(total, i32(0), 0)
                with loop("j", there) as j:
                    store(total, total[0] + i32(x[i * spec.stride + j, k]), 0)
                store(out, spec.mean(total[0], multiplier[there - 1]), i, k)

    return prim_func(spec.name, body)
