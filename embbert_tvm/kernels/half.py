"""Kernels in half precision, on matrices of panels: float16 (rows / 8, width, 8), eight rows side by side, so that a
vector holds one column of eight rows and no sum is one of a vector's lanes.

Each has its loops, which say in float32 what is computed, and beside them the call of the micro-kernel of
micro/embbert_mve_half.h, which rounds each operation to half precision. A result of either is within rounding of the
other's; the micro-kernels give the same bits on every CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import address, argument, call, length, loop, prim_func, store, tokens, workspace

LANES = 8
# Columns of sums that one pass over a panel fills, and columns of the panel that one word of weights serves.
QUAD, PAIR = 4, 2


def panels_of(count):
    """Panels of a matrix of `count` rows."""
    return (count + (LANES - 1)) // LANES


def pack_quads(weight: np.ndarray) -> np.ndarray:
    """(k, n) as float16 (n / 4, k / 2, 2, 4), what is beyond n being 0: what the product reads in order."""
    k, n = weight.shape
    quads = np.zeros((k, -(-n // QUAD) * QUAD), weight.dtype)
    quads[:, :n] = weight
    return np.ascontiguousarray(halves(quads.reshape(k // PAIR, PAIR, -1, QUAD).transpose(2, 0, 1, 3)))


def halves(value: np.ndarray) -> np.ndarray:
    """Rounded to float16, what is out of its range to the largest that it has."""
    largest = np.finfo(np.float16).max
    return np.clip(value, -largest, largest).astype(np.float16)


@dataclass(frozen=True)
class Source:
    """What a product reads: panels, of which a product of one row reads the first; or the rows of a constant table of
    so many, at position or, where `indexed`, at ids."""

    width: int
    table: int | None = None
    indexed: bool = False

    @property
    def label(self) -> str:
        return f"{self.width}" + ("" if self.table is None else f"table{self.table}{'ids' if self.indexed else ''}")


@dataclass(frozen=True)
class HalfProduct:
    """sum_s source_s . weight_s + bias + sum_t table_t[ids] + sum_a addend_a, and what is done to that sum.

    norm: "rms_norm" or "layer_norm"; activation: of ACTIVATIONS; at most one of them. lookups: rows of each table.
    single: one row of output instead of L.
    """

    sources: tuple[Source, ...]
    n: int
    lookups: tuple[int, ...] = ()
    addends: int = 0
    norm: str | None = None
    activation: str | None = None
    single: bool = False

    @property
    def name(self) -> str:
        parts = ["half_product", *(["row"] if self.single else []), self.norm or self.activation or "linear"]
        parts.append("_".join(s.label for s in self.sources) + f"x{self.n}")
        parts += [f"lookup{size}" for size in self.lookups]
        return "_".join(parts + ([f"plus{self.addends}"] if self.addends else []))


def _real(value):
    return tirx.Cast("float32", value)


def _number(value: float):
    return tirx.const(value, "float32")


def _half(buffer, value, *indices) -> None:
    store(buffer, tirx.Cast("float16", value), *indices)


def _exp(x):
    return tirx.exp(x)


def _sigmoid(x):
    return _number(1) / (_number(1) + _exp(-x))


# By name: in float32 what the micro-kernel of the name computes.
ACTIVATIONS: dict[str, Callable] = {
    "silu": lambda x: x * _sigmoid(x),
    "gelu": lambda x: x / _number(2) * (_number(1) + tirx.erf(x * _number(0.5**0.5))),
    "relu": lambda x: tirx.max(x, _number(0)),
    "sigmoid": _sigmoid,
    "tanh": lambda x: tirx.tanh(x),
}


def _activate(called: bool, name: str, out, x, count, *at) -> None:
    """count vectors of out from x on: the activation of each. out and x are (..., width, 8)."""
    width = int(out.shape[-2])
    if called:
        call(f"embbert_mve_half_{name}", address(out, *at, 0, 0), address(x, *at[: len(x.shape) - 2], 0, 0), count)
        return
    with loop("j", count) as j, loop("r", LANES) as r:
        to = (*at[:-1], tirx.floordiv(j, width), tirx.floormod(j, width), r) if len(at) else (j, r)
        _half(out, ACTIVATIONS[name](_real(x[to[len(to) - len(x.shape) :]])), *to)


def _start(called: bool, sums, bias, count: int) -> None:
    if called:
        call("embbert_mve_half_start", address(sums, 0, 0), address(bias, 0), count)
        return
    with loop("j", count) as j, loop("r", LANES) as r:
        store(sums, bias[j], j, r)


def _add(called: bool, sums, panel, at: tuple, count: int) -> None:
    if called:
        call("embbert_mve_half_add", address(sums, 0, 0), address(panel, *at, 0, 0), count)
        return
    with loop("j", count) as j, loop("r", LANES) as r:
        _half(sums, _real(sums[j, r]) + _real(panel[(*at, j, r)]), j, r)


def _multiply(called: bool, sums, panel, at: tuple, weight, k: int) -> None:
    """sums[4 q + i] += sum over k of panel[k] * weight[q, k / 2, k % 2, i]."""
    quads = int(weight.shape[0])
    if called:
        args = (address(sums, 0, 0), address(panel, *at, 0, 0), address(weight, 0, 0, 0, 0))
        call("embbert_mve_half_product", *args, quads, k)
        return
    sum_ = workspace("sum", (1,), "float32")
    with loop("q", quads) as q, loop("c", QUAD) as c, loop("r", LANES) as r:
        store(sum_, _real(sums[q * QUAD + c, r]), 0)
        with loop("p", k // PAIR) as p, loop("h", PAIR) as h:
            store(sum_, sum_[0] + _real(panel[(*at, p * PAIR + h, r)]) * _real(weight[q, p, h, c]), 0)
        _half(sums, sum_[0], q * QUAD + c, r)


def _normalize(called: bool, norm: str, out, b, sums, gain, shift, epsilon: float, n: int) -> None:
    centred = norm == "layer_norm"
    if called:
        vectors = [address(gain, 0), *([address(shift, 0)] if centred else [])]
        args = (address(out, b, 0, 0), address(sums, 0, 0), *vectors)
        call(f"embbert_mve_half_{norm}", *args, _number(epsilon), n)
        return
    mean, square = workspace("mean", (1,), "float32"), workspace("square", (1,), "float32")
    with loop("r", LANES) as r:
        store(mean, _number(0), 0)
        store(square, _number(0), 0)
        if centred:
            with loop("j", n) as j:
                store(mean, mean[0] + _real(sums[j, r]) / _number(n), 0)
        with loop("j", n) as j:
            away = _real(sums[j, r]) - mean[0]
            store(square, square[0] + away * away / _number(n), 0)
        with loop("j", n) as j:
            unit = (_real(sums[j, r]) - mean[0]) / tirx.sqrt(square[0] + _number(epsilon)) * _real(gain[j])
            _half(out, unit + _real(shift[j]) if centred else unit, b, j, r)


def _gather(out, table, row: Callable, width: int) -> None:
    """out (width, 8): the rows row(r) of a table."""
    with loop("r", LANES) as r, loop("k", width) as k:
        store(out, table[row(r), k], k, r)


def product(spec: HalfProduct, epsilon: float = 0.0, called: bool = True) -> tirx.PrimFunc:
    """Arguments: L; each source, float16 (panels, k, 8) or (table, k) and its ids int32 (1, L) where indexed, with its
    weight float16 (n / 4, k / 2, 2, 4) (`pack_quads`); bias float16 (n to the next multiple of 4,); each lookup table
    float16 (rows, n) and its ids; each addend (panels, n, 8); a norm's gain float16 (n,) and a layer norm's shift; out
    float16 (panels, n, 8). k is even. epsilon: of the norm. called: whether micro-kernels compute it."""
    n, padded = spec.n, -(-spec.n // QUAD) * QUAD

    def body() -> None:
        rows = tokens()
        count = 1 if spec.single else panels_of(rows)
        sources = []
        for s, source in enumerate(spec.sources):
            shape = (length(f"M{s}"), source.width, LANES) if source.table is None else (source.table, source.width)
            data = argument(f"x{s}", shape, "float16")
            ids = argument(f"x{s}_ids", (1, rows), "int32") if source.indexed else None
            weight = argument(f"weight{s}", (padded // QUAD, source.width // PAIR, PAIR, QUAD), "float16")
            sources.append((source, data, ids, weight))
        bias = argument("bias", (padded,), "float16")
        lookups = [
            (argument(f"table{t}", (size, n), "float16"), argument(f"table{t}_ids", (1, rows), "int32"))
            for t, size in enumerate(spec.lookups)
        ]
        addends = [argument(f"addend{a}", (length(f"A{a}"), n, LANES), "float16") for a in range(spec.addends)]
        gain = argument("gain", (n,), "float16") if spec.norm else None
        shift = argument("shift", (n,), "float16") if spec.norm == "layer_norm" else None
        out = argument("out", (count, n, LANES), "float16")
        with T.sblock("product"):
            sums = workspace("sums", (padded, LANES), "float16")
            widest = max([s.width for s in spec.sources if s.table is not None] + [n for _ in lookups], default=0)
            panel = workspace("panel", (widest, LANES), "float16") if widest else None
            with loop("b", count) as b:

                def at(r):
                    """The last panel repeats the last row."""
                    return tirx.min(b * LANES + r, rows - 1)

                _start(called, sums, bias, padded)
                for source, data, ids, weight in sources:
                    if source.table is None:
                        _multiply(called, sums, data, (b,), weight, source.width)
                        continue
                    _gather(panel, data, at if ids is None else lambda r, ids=ids: ids[0, at(r)], source.width)
                    _multiply(called, sums, panel, (), weight, source.width)
                for table, ids in lookups:
                    _gather(panel, table, lambda r, ids=ids: ids[0, at(r)], n)
                    _add(called, sums, panel, (), n)
                for addend in addends:
                    _add(called, sums, addend, (b,), n)
                if spec.norm:
                    _normalize(called, spec.norm, out, b, sums, gain, shift, epsilon, n)
                elif spec.activation:
                    _activate(called, spec.activation, out, sums, n, b)
                else:
                    with loop("j", n) as j, loop("r", LANES) as r:
                        store(out, sums[j, r], b, j, r)

    return prim_func(spec.name, body, compact=False)


@dataclass(frozen=True)
class HalfAttention:
    """k: columns of query and key; width: of the value. single: one row of queries."""

    k: int
    width: int
    single: bool = False

    @property
    def name(self) -> str:
        return f"half_attention_{'row_' if self.single else ''}{self.k}x{self.width}"


def attend(called: bool, out, b, query, at: tuple, key, value, count, scores, inverse) -> None:
    """Panel b of out from the queries of a panel query[*at] (k, 8). scores float16 (8 * panels, 8) and inverse float16
    (8,) are to work in; count: how many keys."""
    panels, k, width = value.shape[0], int(key.shape[1]), int(value.shape[1])
    if called:
        keys, values = address(key, 0, 0, 0), address(value, 0, 0, 0)
        call("embbert_mve_half_scores", address(scores, 0, 0), address(query, *at, 0, 0), keys, panels, k)
        call("embbert_mve_half_softmax", address(scores, 0, 0), address(inverse, 0), count)
        weights = (address(scores, 0, 0), values, address(inverse, 0))
        call("embbert_mve_half_context", address(out, b, 0, 0), *weights, panels, width)
        return
    sum_, peak = workspace("sum", (1,), "float32"), workspace("peak", (1,), "float32")
    total = workspace("total", (1,), "float32")
    with loop("r", LANES) as r:
        store(peak, _number(np.finfo(np.float32).min), 0)
        with loop("j", count) as j:
            store(sum_, _number(0), 0)
            with loop("k", k) as i:
                product_ = _real(query[(*at, i, r)]) * _real(key[tirx.floordiv(j, LANES), i, tirx.floormod(j, LANES)])
                store(sum_, sum_[0] + product_, 0)
            _half(scores, sum_[0], j, r)
            store(peak, tirx.max(peak[0], _real(scores[j, r])), 0)
        store(total, _number(0), 0)
        with loop("j", count) as j:
            _half(scores, _exp(_real(scores[j, r]) - peak[0]), j, r)
            store(total, total[0] + _real(scores[j, r]), 0)
        with loop("c", width) as c:
            store(sum_, _number(0), 0)
            with loop("j", count) as j:
                product_ = _real(scores[j, r]) * _real(value[tirx.floordiv(j, LANES), c, tirx.floormod(j, LANES)])
                store(sum_, sum_[0] + product_, 0)
            _half(out, sum_[0] / total[0], b, c, r)


def attention(spec: HalfAttention, called: bool = True) -> tirx.PrimFunc:
    """softmax(query . key) . value. Arguments: L; query float16 (panels, k, 8); key (panels, k, 8); value (panels,
    width, 8); out (panels, width, 8), or of one panel. k is even, width a multiple of 4."""

    def body() -> None:
        count, panels = tokens(), length("M")
        queries = 1 if spec.single else panels
        query = argument("query", (length("Q"), spec.k, LANES), "float16")
        key = argument("key", (panels, spec.k, LANES), "float16")
        value = argument("value", (panels, spec.width, LANES), "float16")
        out = argument("out", (queries, spec.width, LANES), "float16")
        with T.sblock("attention"):
            scores = workspace("scores", (panels * LANES, LANES), "float16")
            inverse = workspace("inverse", (LANES,), "float16")
            with loop("b", queries) as b:
                attend(called, out, b, query, (b,), key, value, count, scores, inverse)

    return prim_func(spec.name, body, compact=False)


@dataclass(frozen=True)
class HalfConv:
    """A causal depthwise filter along the rows: `expansion` columns of each, then an activation or none. single: of the
    first row only."""

    taps: int
    channels: int
    expansion: int = 1
    activation: str | None = None
    single: bool = False

    @property
    def name(self) -> str:
        many = f"by{self.expansion}" if self.expansion > 1 else ""
        kind = f"{'row_' if self.single else ''}{self.activation or 'linear'}"
        return f"half_conv_{kind}_{self.taps}x{self.channels}{many}"


def conv(spec: HalfConv, called: bool = True) -> tirx.PrimFunc:
    """Arguments: x float16 (panels, channels / expansion, 8); weight float16 (channels, taps); bias float16
    (channels,); out float16 (panels, channels, 8)."""
    channels, taps, read = spec.channels, spec.taps, spec.channels // spec.expansion

    def body() -> None:
        panels = length("M")
        x = argument("x", (panels, read, LANES), "float16")
        weight = argument("weight", (channels, taps), "float16")
        bias = argument("bias", (channels,), "float16")
        count = 1 if spec.single else panels
        out = argument("out", (count, channels, LANES), "float16")
        with T.sblock("conv"):
            line = workspace("line", (taps + panels * LANES + 3 * LANES,), "float16")
            with loop("c", channels) as c:
                _filtered(called, out, x, c, tirx.floordiv(c, spec.expansion), line, weight, bias, taps)
            if spec.activation:
                _activate(called, spec.activation, out, out, count * channels, 0)

    return prim_func(spec.name, body, compact=False)


def _filtered(called: bool, out, x, c, channel, line, weight, bias, taps: int) -> None:
    panels, read, channels = out.shape[0], int(x.shape[1]), int(out.shape[1])
    if called:
        args = (address(x, 0, channel, 0), address(line, 0), address(weight, c, 0), bias[c])
        call("embbert_mve_half_filter", address(out, 0, c, 0), *args, panels, read, channels, taps)
        return
    sum_ = workspace("sum", (1,), "float32")
    with loop("t", panels * LANES) as t:
        store(sum_, _real(bias[c]), 0)
        with loop("k", taps) as k:
            row = t - (taps - 1) + k
            sample = _real(x[tirx.floordiv(tirx.max(row, 0), LANES), channel, tirx.floormod(tirx.max(row, 0), LANES)])
            store(sum_, sum_[0] + _real(weight[c, k]) * tirx.if_then_else(row >= 0, sample, _number(0)), 0)
        _half(out, sum_[0], tirx.floordiv(t, LANES), c, tirx.floormod(t, LANES))


def to_panels(width: int, single: bool) -> tirx.PrimFunc:
    """out[i / 8, k, i % 8] = x[0, i, k], the last row repeated. x float32 (1, L, width), out float16 (panels, width,
    8)."""

    def body() -> None:
        rows = 1 if single else length()
        x = argument("x", (1, rows, width), "float32")
        out = argument("out", (panels_of(rows), width, LANES), "float16")
        with T.sblock("to_panels"), loop("b", panels_of(rows)) as b:
            with loop("k", width) as k, loop("r", LANES) as r:
                row = 0 if single else tirx.min(b * LANES + r, rows - 1)
                _half(out, x[0, row, k], b, k, r)

    return prim_func(f"half_to_panels_{'row_' if single else ''}{width}", body, compact=False)


def to_rows(width: int, single: bool) -> tirx.PrimFunc:
    """out[0, i, k] = x[i / 8, k, i % 8]. x float16 (panels, width, 8), out float32 (1, L, width) or (1, 1, width)."""

    def body() -> None:
        rows = 1 if single else length()
        x = argument("x", (length("M"), width, LANES), "float16")
        out = argument("out", (1, rows, width), "float32")
        with T.sblock("to_rows"), loop("i", rows) as i, loop("k", width) as k:
            store(out, _real(x[tirx.floordiv(i, LANES), k, tirx.floormod(i, LANES)]), 0, i, k)

    return prim_func(f"half_to_rows_{'row_' if single else ''}{width}", body, compact=False)
