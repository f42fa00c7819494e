"""Tensor intrinsics: for each C micro-kernel the TIR that it stands for, side by side.

A kernel writes `dot(...)`, say, with an `Isa` that picks: a described one writes the loops, which TVM can compile for
any machine and which define the bits; the others write the call of the micro-kernel. (TVM's own tensorize cannot serve
here: it matches a description of fixed extents, and these loops run over the length of the text.) Here are the
micro-kernels that fill a tile of four rows by two columns, of micro/embbert_dsp.h; those of whole blocks stand in
steps.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import i32, loop, store, workspace

ROWS = 4  # of a block: what one pass over the weights serves
LANES = 2  # rows side by side in a pairs matrix


@dataclass(frozen=True)
class Isa:
    """An instruction set. calls: what its micro-kernels fill, a "tile" or a whole "block", or "" where none is called.
    columns: how many columns of a row lie together in a block; dtype: of a block that is an operand; row_time: what a
    multiplication takes in the kernels of a row at a time, in those of blocks, measured at 64 tokens; most_taps: of a
    filter, as many as its micro-kernel keeps in registers, None where any number will do."""

    name: str
    columns: int
    dtype: str
    calls: str
    row_time: float
    most_taps: int | None = None

    def shape(self, columns) -> tuple:
        """Of a block of four rows of that many columns."""
        return (tirx.floordiv(columns + (self.columns - 1), self.columns), ROWS, self.columns)

    def at(self, r, k) -> tuple:
        """Where column k of row r lies in a block."""
        return (tirx.floordiv(k, self.columns), r, tirx.floormod(k, self.columns))

    def operand(self, name: str, columns):
        return workspace(name, self.shape(columns), self.dtype)

    def sums(self, name: str, columns):
        return workspace(name, self.shape(columns), "int32")

    @property
    def whole(self) -> bool:
        """Whether micro-kernels fill whole blocks."""
        return self.calls == "block"

    @property
    def described(self) -> Isa:
        """The same layouts, and no micro-kernel called."""
        return replace(self, calls="")


DSP = Isa("dsp", LANES, "int16", "tile", 4.7)
MVE = Isa("mve", 16, "int8", "block", 28.0, most_taps=32)
DESCRIBED = DSP.described


def isa_of(features: Sequence[str]) -> Isa:
    """The instruction set whose micro-kernels a CPU of these features runs best.

    A CPU without DSP runs those of DSP as plain C: half the instructions of a row at a time (Cortex-M3), as an operand
    is widened once for four rows.
    """
    return MVE if MVE.name in features else DSP


def computes_in_half(features: Sequence[str]) -> bool:
    """Whether a CPU of these features has vectors of half precision: MVE with floating point."""
    return {"mve", "fp16"} <= set(features)


def call(function: str, *args) -> None:
    """Call a micro-kernel, which writes where its first argument points, or to workspaces."""
    T.evaluate(tirx.call_extern("int32", function, *args))


def address(buffer, *indices):
    return tirx.address_of(buffer[tuple(indices)])


def dot(isa: Isa, acc, acc_at: tuple, left, right, right_row, k: int | None = None) -> None:
    """acc[*acc_at, r, c] += sum_k left[at(r, k)] * right[right_row, k, c], over k columns of right, or all.

    acc int32 (..., 4, 2); left a block; right int8 (rows / 2, columns, 2); columns a multiple of 32.
    """
    k = k or int(right.shape[1])
    if isa.calls:
        args = (address(acc, *acc_at, 0, 0), address(left, 0, 0, 0), address(right, right_row, 0, 0), k // 2)
        call("embbert_dsp_dot_4x2", *args)
        return
    with loop("k", k) as i, loop("r", ROWS) as r, loop("c", LANES) as c:
        product = i32(left[isa.at(r, i)]) * i32(right[right_row, i, c])
        store(acc, acc[(*acc_at, r, c)] + product, *acc_at, r, c)


def context(isa: Isa, acc, weights, values, column, pairs) -> None:
    """acc[r, c] += sum_p sum_h weights[at(r, 2p + h)] * values[p, column + c, h].

    acc int32 (4, 2); weights a block; values int8 (pairs, width, 2).
    """
    if isa.calls:
        width = int(values.shape[1])
        args = (address(acc, 0, 0), address(weights, 0, 0, 0), address(values, 0, column, 0), width * LANES, pairs)
        call("embbert_dsp_context_4x2", *args)
        return
    with loop("p", pairs) as p, loop("r", ROWS) as r, loop("c", LANES) as c, loop("h", LANES) as h:
        product = i32(weights[isa.at(r, p * LANES + h)]) * i32(values[p, column + c, h])
        store(acc, acc[r, c] + product, r, c)


def fir(isa: Isa, acc, line, start, weight, taps: int) -> None:
    """acc[o] += sum_k tap[k] * line[start + o + 1 + k] for four outputs o, the taps as `fir_weights` lays them out.

    acc int32 (4,); line int16; start a multiple of 4; weight int16 (taps / 2 + 1, 2, 2).
    """
    if isa.calls:
        call("embbert_dsp_fir_4", address(acc, 0), address(line, start), address(weight, 0, 0, 0), taps)
        return
    with loop("o", 4) as o, loop("p", taps // 2 + 1) as p, loop("h", 2) as h:
        # An odd output starts at a pair of samples and uses taps // 2 of them, an even one straddles one more.
        odd = tirx.floormod(o, 2)
        sample = start + tirx.floordiv(o, 2) * 2 + odd * 2 + p * 2 + h
        inside = tirx.any(odd == 0, p < taps // 2)
        value = tirx.if_then_else(inside, i32(line[tirx.min(sample, start + taps + 3)]), i32(0))
        store(acc, acc[o] + value * i32(weight[p, 1 - odd, h]), o)


def fir_weights(out, weight, pair, lane: int, taps: int) -> None:
    """Lay out the taps weight[pair, k, lane] (k < taps) for `fir`: out[p, 0] = taps 2p, 2p + 1; out[p, 1] = taps
    2p - 1, 2p; zero where there is none. weight int8 (channels / 2, taps, 2); out int16 (taps / 2 + 1, 2, 2)."""
    zero = tirx.const(0, "int16")
    store(out, zero, 0, 1, 0)
    with loop("p", taps // 2) as p:
        even, odd = weight[pair, p * 2, lane], weight[pair, p * 2 + 1, lane]
        store(out, tirx.Cast("int16", even), p, 0, 0)
        store(out, tirx.Cast("int16", odd), p, 0, 1)
        store(out, tirx.Cast("int16", even), p, 1, 1)
        store(out, tirx.Cast("int16", odd), p + 1, 1, 0)
    store(out, zero, taps // 2, 0, 0)
    store(out, zero, taps // 2, 0, 1)
    store(out, zero, taps // 2, 1, 1)
