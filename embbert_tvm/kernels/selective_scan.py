"""The recurrence of a selective state space, a token at a time: nothing of L x channels x state exists.

h[c, n]   = exp(step[t, c] * decay[c, n]) * h[c, n] + step[t, c] * u[t, c] * into[t, n],  h = 0 before the first
out[t, c] = sum_n h[c, n] * out_of[t, n]
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import argument, length, loop, prim_func, store, workspace


@dataclass(frozen=True)
class SelectiveScan:
    """channels: the width of a row. state: how many numbers each channel remembers."""

    channels: int
    state: int

    @property
    def name(self) -> str:
        return f"selective_scan_{self.channels}x{self.state}"


def selective_scan(spec: SelectiveScan) -> tirx.PrimFunc:
    """Arguments, float32: u, step (1, L, channels); decay (channels, state); into, out_of (1, L, state);
    out (1, L, channels)."""
    channels, state = spec.channels, spec.state

    def body() -> None:
        rows = length()
        u, step = argument("u", (1, rows, channels), "float32"), argument("step", (1, rows, channels), "float32")
        decay = argument("decay", (channels, state), "float32")
        into = argument("into", (1, rows, state), "float32")
        out_of = argument("out_of", (1, rows, state), "float32")
        out = argument("out", (1, rows, channels), "float32")
        with T.sblock("scan"):
            h = workspace("h", (channels, state), "float32")
            entering, total = workspace("entering", (1,), "float32"), workspace("total", (1,), "float32")
            with loop("c", channels) as c, loop("n", state) as n:
                store(h, tirx.const(0.0, "float32"), c, n)
            with loop("t", rows) as t, loop("c", channels) as c:
                store(entering, step[0, t, c] * u[0, t, c], 0)
                store(total, tirx.const(0.0, "float32"), 0)
                with loop("n", state) as n:
                    kept = tirx.exp(step[0, t, c] * decay[c, n]) * h[c, n]
                    store(h, kept + entering[0] * into[0, t, n], c, n)
                    store(total, total[0] + h[c, n] * out_of[0, t, n], 0)
                store(out, total[0], 0, t, c)

    return prim_func(spec.name, body)
