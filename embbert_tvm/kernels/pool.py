"""One row of many: the mean, the largest, the root of the mean square or the last of each column.

    mean:  t[k] = sum_i x[i, k] / L                             to 15 fraction bits, towards zero
    max:   t[k] = max_i x[i, k]
    last:  t[k] = x[L - 1, k]
    rms:   t[k] = sqrt(sum_i x[i, k]^2 / L + epsilon)           the root of an integer, towards zero
    out[0, k] = saturate(multiply_high(t[k] * 2^15, multiplier))    int8 or int16

Sums are exact for up to 65,535 rows: int32, or int64 where int16 is squared. A row is read once and in order, so that
rows can be pooled as they are made. The mean square of int8 has 14 fraction bits, its root 7; that of int16 has none:
a step of it is a 256th of one of int8.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import argument, i32, i64, length, loop, prim_func, store, workspace
from embbert_tvm.kernels.fixed_point import multiply_high, saturate, saturate_wide

KINDS = ("mean", "max", "rms", "last")
# Fraction bits of t, and of the mean square of int8 rows.
BITS = 15
SQUARE_BITS = 14


@dataclass(frozen=True)
class Pool:
    """kind: one of KINDS. width: of a row. dtype: of the rows, which are read as ALL, in order. made: dtype of the
    output; int16 for a row whose range shrinks with the number of rows, as that of a mean of unrelated rows does."""

    kind: str
    width: int
    dtype: str = "int8"
    made: str = "int8"

    @property
    def name(self) -> str:
        wide = "wide_" if self.dtype == "int16" else ""
        return f"pool_{self.kind}_{wide}{'to_wide_' if self.made == 'int16' else ''}{self.width}"

    @property
    def accumulator(self) -> str:
        return "int64" if self.kind == "rms" and self.dtype == "int16" else "int32"

    def start(self):
        """What an accumulator starts from."""
        wider = i64 if self.accumulator == "int64" else i32
        return wider(-(2**15) if self.kind == "max" else 0)

    def add(self, acc, k, value) -> None:
        """Take one element, an int32, of column k."""
        wider = i64 if self.accumulator == "int64" else i32
        if self.kind == "max":
            store(acc, tirx.max(acc[k], value), k)
        elif self.kind == "last":
            store(acc, value, k)
        else:
            store(acc, acc[k] + (wider(value) * wider(value) if self.kind == "rms" else value), k)

    def finish(self, out, acc, rows, epsilon, multiplier) -> None:
        """out[0, k] from the accumulators of `rows` rows, int32."""
        level = workspace("level", (1,), "int32")
        clamped = saturate_wide if self.made == "int16" else saturate
        with loop("k", self.width) as k:
            if self.kind in ("max", "last"):
                store(level, acc[k] * i32(2**BITS), 0)
            elif self.kind == "mean":
                store(level, _quotient(acc[k], rows, BITS), 0)
            else:
                _root(level, acc[k], rows, epsilon[0], self.dtype)
            store(out, clamped(multiply_high(level[0], multiplier[0])), 0, k)


def pool(spec: Pool) -> tirx.PrimFunc:
    """Arguments: x (L, width) of the spec's dtype; of rms, epsilon int32 (1,), in the mean square's steps; multiplier
    int32 (1,); out (1, width) of what the spec makes."""
    width = spec.width

    def body() -> None:
        rows = length()
        x = argument("x", (rows, width), spec.dtype)
        epsilon = argument("epsilon", (1,), "int32") if spec.kind == "rms" else None
        multiplier = argument("multiplier", (1,), "int32")
        out = argument("out", (1, width), spec.made)
        with T.sblock("pool"):
            acc = workspace("acc", (width,), spec.accumulator)
            with loop("k", width) as k:
                store(acc, spec.start(), k)
            with loop("i", rows) as i, loop("k", width) as k:
                spec.add(acc, k, i32(x[i, k]))
            spec.finish(out, acc, i32(rows), epsilon, multiplier)

    return prim_func(spec.name, body)


def _quotient(total, count, bits: int):
    """total / count with `bits` fraction bits, both int32, towards zero in the quotient and in its fraction."""
    # Not total - whole * count, whose product with 2^bits TVM distributes: total * 2^bits overflows.
    whole, rest = tirx.truncdiv(total, count), tirx.truncmod(total, count)
    return whole * i32(2**bits) + tirx.truncdiv(rest * i32(2**bits), count)


def _root(level, total, count, epsilon, dtype: str) -> None:
    """level[0] = the root of total / count + epsilon, in BITS fraction bits."""
    square, root = workspace("square", (1,), "int32"), workspace("root", (1,), "int32")
    if dtype == "int16":
        mean, shift = i32(tirx.truncdiv(total, i64(count))), BITS
    else:
        mean, shift = _quotient(total, count, SQUARE_BITS), BITS - SQUARE_BITS // 2
    store(square, tirx.min(mean, i32(2**30)) + epsilon, 0)
    store(root, i32(0), 0)
    with loop("bit", 16) as bit:
        trial = root[0] | (i32(1 << 15) >> bit)
        store(root, tirx.Select(i64(trial) * i64(trial) <= i64(square[0]), trial, root[0]), 0)
    store(level, root[0] * i32(2**shift), 0)
