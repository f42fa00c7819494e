"""Operators on rows in half precision: float16 (L, width), a row at a time.

They say in float32 what is computed, and round what is written. The row-block kernels of isa/mve_fp16.py round each
operation to half precision: a result of theirs is within rounding of what these give, and has the same bits on every
CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import argument, length, loop, prim_func, store, workspace


def halves(value: np.ndarray) -> np.ndarray:
    """Rounded to float16, what is out of its range to the largest that it has."""
    largest = np.finfo(np.float16).max
    return np.clip(value, -largest, largest).astype(np.float16)


@dataclass(frozen=True)
class HalfInput:
    """What a product reads: rows, of which a product of one row reads the first; or the rows of a constant table of so
    many, at position or, where `indexed`, at ids."""

    width: int
    table: int | None = None
    indexed: bool = False

    @property
    def label(self) -> str:
        return f"{self.width}" + ("" if self.table is None else f"table{self.table}{'ids' if self.indexed else ''}")


@dataclass(frozen=True)
class HalfProduct:
    """sum_s source_s . weight_s + bias + sum_t table_t[ids] + sum_a residual_a, and what is done to that sum.

    norm: "rms_norm" or "layer_norm", of `epsilon`; activation: of ACTIVATIONS; at most one of them. small_tables:
    rows of each table. one_row: one row of output instead of L.
    """

    sources: tuple[HalfInput, ...]
    n: int
    small_tables: tuple[int, ...] = ()
    residuals: tuple[HalfInput, ...] = ()
    norm: str | None = None
    activation: str | None = None
    one_row: bool = False
    epsilon: float = 0.0

    @property
    def name(self) -> str:
        parts = ["half_product", *(["row"] if self.one_row else []), self.norm or self.activation or "linear"]
        parts.append("_".join(s.label for s in self.sources) + f"x{self.n}")
        parts += [f"table{size}" for size in self.small_tables]
        return "_".join(parts + [f"plus{a.label}" for a in self.residuals])


def _real(value):
    return tirx.Cast("float32", value)


def _number(value: float):
    return tirx.const(value, "float32")


def _half(buffer, value, *indices) -> None:
    store(buffer, tirx.Cast("float16", value), *indices)


def _sigmoid(x):
    return _number(1) / (_number(1) + tirx.exp(-x))


# By name: in float32 what the micro-kernel of the name computes.
ACTIVATIONS: dict[str, Callable] = {
    "silu": lambda x: x * _sigmoid(x),
    "gelu": lambda x: x / _number(2) * (_number(1) + tirx.erf(x * _number(0.5**0.5))),
    "relu": lambda x: tirx.max(x, _number(0)),
    "sigmoid": _sigmoid,
    "tanh": lambda x: tirx.tanh(x),
}


def _activated(name: str | None, value):
    return value if name is None else ACTIVATIONS[name](value)


def product(spec: HalfProduct) -> tirx.PrimFunc:
    """Arguments: each source, float16 (L or more, k) or (table, k), and its ids int32 (1, L) where indexed, with its
    weight float16 (k, n); bias float16 (n,); each small table float16 (rows, n) and its ids; each residual as a
    source; a norm's gain float16 (n,) and a layer norm's shift; out float16 (L or 1, n)."""
    n = spec.n

    def body() -> None:
        rows = length()

        def read(name: str, source: HalfInput) -> Callable:
            count = source.table or (length(f"{name}_rows") if spec.one_row else rows)
            data = argument(name, (count, source.width), "float16")
            ids = argument(f"{name}_ids", (1, rows), "int32") if source.indexed else None
            return lambda i, k: _real(data[i if ids is None else ids[0, i], k])

        sources = []
        for s, source in enumerate(spec.sources):
            element = read(f"x{s}", source)
            sources.append((source, element, argument(f"weight{s}", (source.width, n), "float16")))
        bias = argument("bias", (n,), "float16")
        small_tables = [read(f"table{t}", HalfInput(n, size, True)) for t, size in enumerate(spec.small_tables)]
        residuals = [read(f"residual{a}", residual) for a, residual in enumerate(spec.residuals)]
        gain = argument("gain", (n,), "float16") if spec.norm else None
        shift = argument("shift", (n,), "float16") if spec.norm == "layer_norm" else None
        out = argument("out", (1 if spec.one_row else rows, n), "float16")
        with T.sblock("product"):
            sums = workspace("sums", (n,), "float32")
            with loop("i", 1 if spec.one_row else rows) as i:
                with loop("j", n) as j:
                    added = (element(i, j) for element in (*small_tables, *residuals))
                    store(sums, sum(added, _real(bias[j])), j)
                    for source, element, weight in sources:
                        with loop("k", source.width) as k:
                            store(sums, sums[j] + element(i, k) * _real(weight[k, j]), j)
                if spec.norm:
                    _normalize(spec, out, i, sums, gain, shift)
                else:
                    with loop("j", n) as j:
                        _half(out, _activated(spec.activation, sums[j]), i, j)

    return prim_func(spec.name, body)


def _normalize(spec: HalfProduct, out, i, sums, gain, shift) -> None:
    mean, square = workspace("mean", (1,), "float32"), workspace("square", (1,), "float32")
    n = spec.n
    store(mean, _number(0), 0)
    store(square, _number(0), 0)
    if shift is not None:
        with loop("j", n) as j:
            store(mean, mean[0] + sums[j] / _number(n), 0)
    with loop("j", n) as j:
        away = sums[j] - mean[0]
        store(square, square[0] + away * away / _number(n), 0)
    with loop("j", n) as j:
        unit = (sums[j] - mean[0]) / tirx.sqrt(square[0] + _number(spec.epsilon)) * _real(gain[j])
        _half(out, unit if shift is None else unit + _real(shift[j]), i, j)


@dataclass(frozen=True)
class HalfAttention:
    """k: columns of query and key; width: of the value. one_row: one row of queries."""

    k: int
    width: int
    one_row: bool = False

    @property
    def name(self) -> str:
        return f"half_attention_{'row_' if self.one_row else ''}{self.k}x{self.width}"


def attention(spec: HalfAttention) -> tirx.PrimFunc:
    """softmax(query . key) . value. Arguments: query float16 (L or more, k); key (L, k); value (L, width); out (L or 1,
    width)."""

    def body() -> None:
        count = length()
        query = argument("query", (length("Q"), spec.k), "float16")
        key = argument("key", (count, spec.k), "float16")
        value = argument("value", (count, spec.width), "float16")
        queries = 1 if spec.one_row else count
        out = argument("out", (queries, spec.width), "float16")
        with T.sblock("attention"):
            scores, peak = workspace("scores", (count,), "float32"), workspace("peak", (1,), "float32")
            total, sum_ = workspace("total", (1,), "float32"), workspace("sum", (1,), "float32")
            with loop("i", queries) as i:
                store(peak, _number(np.finfo(np.float32).min), 0)
                with loop("j", count) as j:
                    store(scores, _number(0), j)
                    with loop("k", spec.k) as k:
                        store(scores, scores[j] + _real(query[i, k]) * _real(key[j, k]), j)
                    store(peak, tirx.max(peak[0], scores[j]), 0)
                store(total, _number(0), 0)
                with loop("j", count) as j:
                    store(scores, tirx.exp(scores[j] - peak[0]), j)
                    store(total, total[0] + scores[j], 0)
                with loop("c", spec.width) as c:
                    store(sum_, _number(0), 0)
                    with loop("j", count) as j:
                        store(sum_, sum_[0] + scores[j] * _real(value[j, c]), 0)
                    _half(out, sum_[0] / total[0], i, c)

    return prim_func(spec.name, body)


@dataclass(frozen=True)
class HalfConv:
    """A causal depthwise filter along the rows: `expansion` columns of each, then an activation or none. one_row: of
    the first row only."""

    taps: int
    channels: int
    expansion: int = 1
    activation: str | None = None
    one_row: bool = False

    @property
    def name(self) -> str:
        many = f"by{self.expansion}" if self.expansion > 1 else ""
        kind = f"{'row_' if self.one_row else ''}{self.activation or 'linear'}"
        return f"half_conv_{kind}_{self.taps}x{self.channels}{many}"


def conv(spec: HalfConv) -> tirx.PrimFunc:
    """Arguments: x float16 (L or more, channels / expansion); weight float16 (channels, taps); bias float16
    (channels,); out float16 (L or 1, channels)."""
    channels, taps, read = spec.channels, spec.taps, spec.channels // spec.expansion

    def body() -> None:
        rows = length()
        x = argument("x", (rows, read), "float16")
        weight = argument("weight", (channels, taps), "float16")
        bias = argument("bias", (channels,), "float16")
        count = 1 if spec.one_row else rows
        out = argument("out", (count, channels), "float16")
        with T.sblock("conv"):
            sum_ = workspace("sum", (1,), "float32")
            with loop("t", count) as t, loop("c", channels) as c:
                store(sum_, _real(bias[c]), 0)
                with loop("k", taps) as k:
                    row = t - (taps - 1) + k
                    sample = _real(x[tirx.max(row, 0), tirx.floordiv(c, spec.expansion)])
                    inside = tirx.if_then_else(row >= 0, sample, _number(0))
                    store(sum_, sum_[0] + _real(weight[c, k]) * inside, 0)
                _half(out, _activated(spec.activation, sum_[0]), t, c)

    return prim_func(spec.name, body)


def to_half(width: int, one_row: bool) -> tirx.PrimFunc:
    """out[i, k] = x[0, i, k]. x float32 (1, L, width), out float16 (L or 1, width)."""

    def body() -> None:
        rows = 1 if one_row else length()
        x = argument("x", (1, rows, width), "float32")
        out = argument("out", (rows, width), "float16")
        with T.sblock("to_half"), loop("i", rows) as i, loop("k", width) as k:
            _half(out, x[0, i, k], i, k)

    return prim_func(f"to_half_{'row_' if one_row else ''}{width}", body)


def to_float(width: int, one_row: bool) -> tirx.PrimFunc:
    """out[0, i, k] = x[i, k]. x float16 (L, width), out float32 (1, L or 1, width)."""

    def body() -> None:
        rows = length()
        x = argument("x", (rows, width), "float16")
        out = argument("out", (1, 1 if one_row else rows, width), "float32")
        with T.sblock("to_float"), loop("i", 1 if one_row else rows) as i, loop("k", width) as k:
            store(out, _real(x[i, k]), 0, i, k)

    return prim_func(f"half_to_float_{'row_' if one_row else ''}{width}", body)
