"""The recurrence of a selective state space in integers, a token at a time: nothing of L x channels x state exists.

    at         = log_step[128 + step[t, c]]                             where in `decay` a step of this size begins
    entering   = multiply_high(size[128 + step[t, c]], u[t, c] * 2^24)
    h[c, n]    = multiply_high(2 h[c, n], decay[at + log_decay[c, n]]) + entering * into[t, n],   h = 0 before the first
    total      = skip[c] * u[t, c] + sum_n multiply_high(h[c, n], out_of[t, n] * 2^bits)
    out[t, c]  = saturate(multiply_high(total, multiplier))

`step` is any function of one int8 (softplus of what a product gives, say), which `size` and `log_step` tabulate.
decay[i] = 2^31 exp(-LEAST * 2^(i / OCTAVE)) is one table for all layers: the logarithms of a step and of a decay rate
are added, so that exp(step * rate) is one look-up for any rate, right to 1 / OCTAVE of an octave of its exponent.

|h| stays below 2^30 by the choice of `size` (graph/quantize/selective_scan.py), which bounds the limit of h; `bits`
keeps the sum below 2^31. Ten instructions of an Arm with DSP for each h.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import argument, i32, length, loop, prim_func, store, workspace
from embbert_tvm.kernels.fixed_point import multiply_high, saturate

# The exponent of the first entry of the table, entries for each doubling of it, and how many there are.
LEAST = 2.0**-15
OCTAVE = 32
ENTRIES = 1024
# The most that log_step is: exp(-16), of the smallest rate; and what is left for log_decay.
MOST_STEP = 19 * OCTAVE
MOST_DECAY = ENTRIES - 1 - MOST_STEP
INPUT_BITS = 24


def decay_table() -> np.ndarray:
    """round(2^31 exp(-LEAST * 2^(i / OCTAVE))), int32 (ENTRIES,)."""
    exponents = LEAST * 2.0 ** (np.arange(ENTRIES) / OCTAVE)
    return np.minimum(np.rint(2.0**31 * np.exp(-exponents)), 2**31 - 1).astype(np.int32)


@dataclass(frozen=True)
class IntegerScan:
    """channels: the width of a row. state: how many numbers each channel remembers. bits: of what reads them.

    u, step, into and out_of are read as ROW; h is STATE, int32 (channels, state); the tables are TABLE.
    """

    channels: int
    state: int
    bits: int

    @property
    def name(self) -> str:
        return f"scan_{self.channels}x{self.state}_{self.bits}"


def integer_scan(spec: IntegerScan) -> tirx.PrimFunc:
    """Arguments: u, step int8 (L, channels); into, out_of int8 (L, state); size int32 (256,); log_step int16 (256,);
    log_decay int16 (channels, state); decay int32 (ENTRIES,); skip int32 (channels,); multiplier int32 (1,); out int8
    (L, channels)."""
    channels, state = spec.channels, spec.state

    def body() -> None:
        rows = length()
        u, step = argument("u", (rows, channels), "int8"), argument("step", (rows, channels), "int8")
        into, out_of = argument("into", (rows, state), "int8"), argument("out_of", (rows, state), "int8")
        size, log_step = argument("size", (256,), "int32"), argument("log_step", (256,), "int16")
        log_decay = argument("log_decay", (channels, state), "int16")
        decay = argument("decay", (ENTRIES,), "int32")
        skip, multiplier = argument("skip", (channels,), "int32"), argument("multiplier", (1,), "int32")
        out = argument("out", (rows, channels), "int8")
        with T.sblock("scan"):
            twice = workspace("twice", (channels, state), "int32")  # 2 h
            read_by = workspace("read_by", (state,), "int32")
            at, entering = workspace("at", (1,), "int32"), workspace("entering", (1,), "int32")
            h, total = workspace("h", (1,), "int32"), workspace("total", (1,), "int32")
            with loop("c", channels) as c, loop("n", state) as n:
                store(twice, i32(0), c, n)
            with loop("t", rows) as t:
                with loop("n", state) as n:
                    store(read_by, i32(out_of[t, n]) * i32(2**spec.bits), n)
                with loop("c", channels) as c:
                    code = i32(step[t, c]) + i32(128)
                    store(at, i32(log_step[code]), 0)
                    store(entering, multiply_high(size[code], i32(u[t, c]) * i32(2**INPUT_BITS)), 0)
                    store(total, skip[c] * i32(u[t, c]), 0)
                    with loop("n", state) as n:
                        kept = multiply_high(twice[c, n], decay[at[0] + i32(log_decay[c, n])])
                        store(h, kept + entering[0] * i32(into[t, n]), 0)
                        store(twice, h[0] * i32(2), c, n)
                        store(total, total[0] + multiply_high(h[0], read_by[n]), 0)
                    store(out, saturate(multiply_high(total[0], multiplier[0])), t, c)

    return prim_func(spec.name, body)
