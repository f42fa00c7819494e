"""The DSP extension: SMLAD, two 16-bit products an instruction, on a tile of four rows by two columns."""

from __future__ import annotations

from dataclasses import dataclass

from embbert_tvm.kernels.builder import address, call
from embbert_tvm.kernels.isa.base import Isa
from embbert_tvm.kernels.layouts import INTERLEAVE

# Pairs of columns between two branches of the product's loop, and the fewest that it is written for.
_STEPS, _LEAST, _MOST = 16, 2, 24
# The context's loop reaches this far by immediate offsets.
_OFFSET_BYTES = 4096


@dataclass(frozen=True)
class Dsp(Isa):
    name: str = "dsp"
    intrinsic: bool = True

    def dot_columns(self, columns: int) -> int:
        pairs = max((columns + 1) // 2, _LEAST)
        while steps_of(pairs) is None:
            pairs += 1
        return 2 * pairs

    def load(self, out, tensor, first_pair, width: int) -> None:
        if not self.intrinsic:
            super().load(out, tensor, first_pair, width)
            return
        pairs = (address(tensor, first_pair, 0, 0), address(tensor, first_pair + 1, 0, 0))
        call("embbert_dsp_widen_4", address(out, 0, 0, 0), *pairs, width)

    def dot(self, acc, acc_at: tuple, left, right, right_at: tuple, k: int) -> None:
        steps = steps_of(k // 2) if k % 2 == 0 else None
        if not self.intrinsic or steps is None:
            super().dot(acc, acc_at, left, right, right_at, k)
            return
        pair, first = right_at
        name = "embbert_dsp_dot_4x2" if steps == _STEPS else f"embbert_dsp_dot_4x2_{steps}"
        args = (address(acc, *acc_at, 0, 0), address(left, 0, 0, 0), address(right, pair, first, 0), k // 2)
        call(name, *args)

    def context_tile(self, acc, weights, values, column, pairs) -> None:
        stride = int(values.shape[1]) * INTERLEAVE
        steps = next((s for s in (4, 2) if stride * s <= _OFFSET_BYTES), None)
        if not self.intrinsic or steps is None:
            super().context_tile(acc, weights, values, column, pairs)
            return
        name = "embbert_dsp_context_4x2" if steps == 4 else f"embbert_dsp_context_4x2_{steps}"
        args = (address(acc, 0, 0), address(weights, 0, 0, 0), address(values, 0, column, 0), stride, pairs)
        call(name, *args)

    def fir(self, acc, line, start, weight, taps: int) -> None:
        if not self.intrinsic:
            super().fir(acc, line, start, weight, taps)
            return
        call("embbert_dsp_fir_4", address(acc, 0), address(line, start), address(weight, 0, 0, 0), taps)

    def fir_at(self, acc, line, weight, channel, taps: int) -> None:
        if not self.intrinsic:
            super().fir_at(acc, line, weight, channel, taps)
            return
        args = (address(acc, 0), address(line, 0, 0), address(weight, channel, 0, 0, 0), taps)
        call("embbert_dsp_fir_4", *args)


def steps_of(pairs: int) -> int | None:
    """Pairs of columns that the product's loop takes between two branches, a divisor of `pairs`; None where none is
    written for it."""
    if pairs % _STEPS == 0:
        return _STEPS
    return next((steps for steps in range(_MOST, _LEAST - 1, -1) if pairs % steps == 0), None)


DSP = Dsp()
