"""The product of two tensors, element by element: what a gate lets through.

out[i, k] = saturate(multiply_high(a[row_a(i), k] * b[row_b(i), k] * 2^GATE_BITS, multiplier))
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from embbert_tvm.kernels.builder import argument, block, i32, length, loop, prim_func, store
from embbert_tvm.kernels.fixed_point import multiply_high, saturate

GATE_BITS = 12


@dataclass(frozen=True)
class Gate:
    """width: of a row. rows: of a and b, the only one that is read, None for all, which are read as ROW; `one_row`: one
    row of output, as both are read at one row."""

    width: int
    rows: tuple[int | None, int | None] = (None, None)
    one_row: bool = False

    @property
    def name(self) -> str:
        return f"gate_{'row_' if self.one_row else ''}{self.width}"


def gate(spec: Gate) -> tirx.PrimFunc:
    """Arguments: a and b int8, (L, width) each or (1, width) where its row is 0; multiplier int32 (1,); out int8
    (L or 1, width)."""

    def body() -> None:
        rows = length()
        a = argument("a", (rows, spec.width), "int8")
        b = argument("b", (length("M") if spec.one_row else rows, spec.width), "int8")
        multiplier = argument("multiplier", (1,), "int32")
        out_rows = 1 if spec.one_row else rows
        out = argument("out", (out_rows, spec.width), "int8")
        with loop("i", out_rows) as i, loop("k", spec.width) as k:
            with block("gate", vi=("S", out_rows, i), vk=("S", spec.width, k)) as (vi, vk):
                left, right = (x[vi if row is None else row, vk] for x, row in zip((a, b), spec.rows, strict=True))
                product = i32(left) * i32(right) * i32(2**GATE_BITS)
                store(out, saturate(multiply_high(product, multiplier[0])), vi, vk)

    return prim_func(spec.name, body)
