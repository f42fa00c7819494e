"""Tensor intrinsics: for each C micro-kernel of micro/embbert_dsp.h the TIR that it stands for, side by side.

A kernel writes `dot(...)`, say, with an `Isa` that picks: DESCRIBED writes the loops, which TVM can compile for any
machine and which define the bits; DSP writes the call of the micro-kernel. (TVM's own tensorize cannot serve here: it
matches a description of fixed extents, and these loops run over the length of the text.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import i32, loop, store

ROWS = 4  # of a block: what one pass over the weights serves
LANES = 2  # rows side by side in a pairs matrix


@dataclass(frozen=True)
class Isa:
    """name: of the instruction set; micro: whether the micro-kernels are called."""

    name: str
    micro: bool


DESCRIBED = Isa("described", False)
DSP = Isa("dsp", True)


def isa_of(features: Sequence[str]) -> Isa:
    """The instruction set whose micro-kernels a CPU of these features runs best.

    A CPU without DSP runs those of DSP as plain C: half the instructions of a row at a time (Cortex-M3), as an operand
    is widened once for four rows.
    """
    return DSP


def _call(function: str, *args) -> None:
    T.evaluate(tirx.call_extern("int32", function, *args))


def _at(buffer, *indices):
    return tirx.address_of(buffer[tuple(indices)])


def dot(isa: Isa, acc, acc_at: tuple, left, left_pair: int, right, right_row, right_column: int, pairs: int) -> None:
    """acc[*acc_at, r, c] += sum_p sum_h left[left_pair + p, r, h] * right[right_row, right_column + 2p + h, c].

    acc int32 (..., 4, 2); left int16 (>= pairs, 4, 2); right int8 (rows / 2, columns, 2); pairs a multiple of 16.
    """
    if isa.micro:
        _call(
            "embbert_dsp_dot_4x2",
            _at(acc, *acc_at, 0, 0),
            _at(left, left_pair, 0, 0),
            _at(right, right_row, right_column, 0),
            pairs,
        )
        return
    with loop("p", pairs) as p, loop("r", ROWS) as r, loop("c", LANES) as c, loop("h", 2) as h:
        product = i32(left[left_pair + p, r, h]) * i32(right[right_row, right_column + p * 2 + h, c])
        store(acc, acc[(*acc_at, r, c)] + product, *acc_at, r, c)


def context(isa: Isa, acc, weights, values, column, pairs) -> None:
    """acc[r, c] += sum_p sum_h weights[p, r, h] * values[p, column + c, h].

    acc int32 (4, 2); weights int16 (>= pairs, 4, 2); values int8 (pairs, width, 2).
    """
    if isa.micro:
        width = int(values.shape[1])
        args = (_at(acc, 0, 0), _at(weights, 0, 0, 0), _at(values, 0, column, 0), width * LANES, pairs)
        _call("embbert_dsp_context_4x2", *args)
        return
    with loop("p", pairs) as p, loop("r", ROWS) as r, loop("c", LANES) as c, loop("h", 2) as h:
        store(acc, acc[r, c] + i32(weights[p, r, h]) * i32(values[p, column + c, h]), r, c)


def widen(isa: Isa, out, out_pair: int, rows, first, width: int) -> None:
    """out[out_pair + k / 2, r, k % 2] = rows[first + r / 2, k, r % 2] for four rows r and k < width.

    out int16 (..., 4, 2); rows int8 (n, width, 2).
    """
    if isa.micro:
        args = (_at(out, out_pair, 0, 0), _at(rows, first, 0, 0), _at(rows, first + 1, 0, 0), width)
        _call("embbert_dsp_widen_4", *args)
        return
    with loop("p", width // 2) as p, loop("r", ROWS) as r, loop("h", 2) as h:
        value = rows[first + tirx.floordiv(r, 2), p * 2 + h, tirx.floormod(r, 2)]
        store(out, tirx.Cast("int16", value), out_pair + p, r, h)


def fir(isa: Isa, acc, line, start, weight, taps: int) -> None:
    """acc[o] += sum_k tap[k] * line[start + o + 1 + k] for four outputs o, the taps as `fir_weights` lays them out.

    acc int32 (4,); line int16; start a multiple of 4; weight int16 (taps / 2 + 1, 2, 2).
    """
    if isa.micro:
        _call("embbert_dsp_fir_4", _at(acc, 0), _at(line, start), _at(weight, 0, 0, 0), taps)
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
