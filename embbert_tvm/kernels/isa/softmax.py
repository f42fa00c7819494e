"""The softmax of a row of a block, in plain TIR."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import i32, loop, store, workspace
from embbert_tvm.kernels.fixed_point import multiply_high, saturate_unsigned
from embbert_tvm.kernels.layouts import INTERLEAVE

if TYPE_CHECKING:
    from embbert_tvm.kernels.isa.base import Isa


def softmax_row(isa: Isa, weights, total, score, exp, score_multiplier, count, r) -> None:
    """An odd length leaves the last pair's second column free: it takes part as a copy of a score that is there,
    and is taken out of the sum and set to weigh nothing afterwards."""
    peak, sum_ = workspace("peak", (1,), "int32"), workspace("sum", (1,), "int32")
    below, weight = workspace("below", (1,), "int32"), workspace("weight", (1,), "int32")
    odd = tirx.floormod(count, INTERLEAVE) == 1
    with T.If(odd), T.Then():
        store(score, score[isa.at(r, 0)], *isa.at(r, count))
    store(peak, score[isa.at(r, 0)], 0)
    with loop("p", (count + 1) // INTERLEAVE) as p:
        for c in range(INTERLEAVE):
            store(peak, tirx.max(peak[0], score[isa.at(r, p * INTERLEAVE + c)]), 0)
    store(sum_, i32(0), 0)
    with loop("p", (count + 1) // INTERLEAVE) as p:
        for c in range(INTERLEAVE):
            at = isa.at(r, p * INTERLEAVE + c)
            store(below, peak[0] - score[at], 0)
            store(weight, i32(exp[saturate_unsigned(multiply_high(below[0], score_multiplier))]), 0)
            store(weights, tirx.Cast(isa.operand_dtype, weight[0]), *at)
            store(sum_, sum_[0] + weight[0], 0)
    with T.If(odd), T.Then():
        store(sum_, sum_[0] - i32(weights[isa.at(r, count)]), 0)
        store(weights, tirx.const(0, isa.operand_dtype), *isa.at(r, count))
    store(total, sum_[0], r)


def context_factor(total, ratio):
    """What a context's sums are multiplied by, from the sum of a row's weights (attention.py)."""
    return multiply_high(tirx.truncdiv(i32(2**31 - 1), total) << i32(6), ratio)
