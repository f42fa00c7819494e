"""How a filter's taps lie for `Isa.fir`."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from embbert_tvm.kernels.builder import loop, store


def lay_out_taps(out, tap: Callable, taps: int) -> None:
    """Lay out int8 taps tap(k), k < taps, for `Isa.fir`: out[p, 0] = taps 2p, 2p + 1; out[p, 1] = taps 2p - 1, 2p; zero
    where there is none. out int16 (taps / 2 + 1, 2, 2)."""
    zero = tirx.const(0, "int16")
    store(out, zero, 0, 1, 0)
    with loop("p", taps // 2) as p:
        even, odd = tap(p * 2), tap(p * 2 + 1)
        store(out, tirx.Cast("int16", even), p, 0, 0)
        store(out, tirx.Cast("int16", odd), p, 0, 1)
        store(out, tirx.Cast("int16", even), p, 1, 1)
        store(out, tirx.Cast("int16", odd), p + 1, 1, 0)
    store(out, zero, taps // 2, 0, 0)
    store(out, zero, taps // 2, 0, 1)
    store(out, zero, taps // 2, 1, 1)
