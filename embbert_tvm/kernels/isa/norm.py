"""Norms of the rows of a block from their accumulators, in plain TIR."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm import tirx

from embbert_tvm.kernels.builder import i32, i64, loop, store, workspace
from embbert_tvm.kernels.epilogues import SHIFT_BITS, reciprocal_root
from embbert_tvm.kernels.fixed_point import clamp, multiply_high
from embbert_tvm.kernels.layouts import INTERLEAVE, ROWS

if TYPE_CHECKING:
    from embbert_tvm.kernels.isa.base import Isa
    from embbert_tvm.kernels.isa.destination import Destination


@dataclass(frozen=True)
class Norm:
    """A norm's vectors (epilogues.RmsNorm, LayerNorm): channel_rescale, epsilon, gain, and LayerNorm's shift."""

    channel_rescale: object
    epsilon: object
    gain: object
    shift: object | None = None


def normalize_sums(isa: Isa, out: Destination, sums, width: int, start: Callable, norm: Norm) -> None:
    """A norm of accumulators start(r, j) that no product makes, a row at a time: all of `sums` holds one row."""

    def at(column) -> tuple:
        row = tirx.floormod(tirx.floordiv(column, isa.columns), ROWS)
        return tirx.floordiv(column, ROWS * isa.columns), row, tirx.floormod(column, isa.columns)

    acc = workspace("acc", (1,), "int32")

    def make(r, take: Callable) -> None:
        def scale(j) -> None:
            store(acc, start(r, j), 0)
            store(acc, multiply_high(acc[0], norm.channel_rescale[j]), 0)
            store(sums, acc[0], *at(j))
            take(acc[0])

        _by_pairs(width, scale)

    normalize_rows(out, lambda r, j: sums[at(j)], width, norm, make)


def normalize_rows(out: Destination, scaled: Callable, width: int, norm: Norm, make: Callable | None = None) -> None:
    """A norm of the rows scaled(r, j). make: where it is given, make(r, take) makes a row and takes its elements."""
    shift, inverse = workspace("shift", (1,), "int32"), workspace("inverse", (1,), "int32")
    square_sum, mean = workspace("square_sum", (1,), "int64"), workspace("mean", (1,), "int32")
    total = workspace("total", (1,), "int64")

    def centred(r, j):
        return scaled(r, j) - mean[0] if norm.shift is not None else scaled(r, j)

    def square(value) -> None:
        store(square_sum, square_sum[0] + i64(value) * i64(value), 0)

    def add(value) -> None:
        store(total, total[0] + i64(value), 0)

    def each_scaled(r, take: Callable) -> None:
        if make is not None:
            make(r, take)
        else:
            _by_pairs(width, lambda j: take(scaled(r, j)))

    with loop("r", ROWS) as r:
        store(square_sum, i64(norm.epsilon[0]), 0)
        if norm.shift is None:
            each_scaled(r, square)
        else:
            store(total, i64(0), 0)
            each_scaled(r, add)
            store(mean, i32(tirx.truncdiv(total[0], i64(width))), 0)
            _by_pairs(width, lambda j, r=r: square(centred(r, j)))
        reciprocal_root(square_sum, shift, inverse)

        def unit(j, r=r) -> None:
            value = multiply_high(centred(r, j) * (i32(1) << (i32(16) - shift[0])), inverse[0])
            value = multiply_high(value, norm.gain[j])
            if norm.shift is not None:
                value = (value + norm.shift[j]) >> i32(SHIFT_BITS)
            out.write(r, j, clamp(value))

        _by_pairs(width, unit)


def _by_pairs(width: int, write: Callable) -> None:
    """write(j) for each column, two a round."""
    if width % INTERLEAVE:
        with loop("j", width) as j:
            write(j)
        return
    with loop("p", width // INTERLEAVE) as p:
        for c in range(INTERLEAVE):
            write(p * INTERLEAVE + c)
