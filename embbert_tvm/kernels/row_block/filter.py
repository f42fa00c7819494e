"""A causal depthwise filter along the text on row-interleaved rows, one channel after another."""

from __future__ import annotations

import functools

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import argument, length, loop, prim_func, workspace
from embbert_tvm.kernels.isa import Isa
from embbert_tvm.kernels.layouts import INTERLEAVE
from embbert_tvm.kernels.low_bits import NARROW, WIDE, WeightFormat, constants, stored


@functools.cache
def filter_along_text(taps: int, channels: int, isa: Isa, form: WeightFormat | None = None, table: bool = True):
    """depthwise_conv(DepthwiseConv(taps, channels, Activate() or Requantize(), form=form)) on row-interleaved rows.

    Arguments: x int8 (M, channels, 2); weight int8 (channels / 2, taps, 2) or its codes; bias, multiplier int32
    (channels,); table int8 (256,), if any; out int8 (M, channels, 2).
    """
    small, middle = WIDE if form is None else NARROW

    def body() -> None:
        pairs = length("M")
        x = argument("x", (pairs, channels, INTERLEAVE), "int8")
        weight = stored("weight", (channels // INTERLEAVE, taps, INTERLEAVE), form)
        bias = constants("bias", (channels,), small)
        multiplier = constants("multiplier", (channels,), middle)
        activation = argument("table", (256,), "int8") if table else None
        out = argument("out", (pairs, channels, INTERLEAVE), "int8")
        with T.sblock("filter"):
            line = isa.line(taps, pairs)
            if form is None:
                with loop("c", channels) as c:
                    pair = tirx.floordiv(c, INTERLEAVE)
                    isa.filter_channel(out, x, c, line, weight, pair, bias, multiplier, activation)
                return
            tile = workspace("tile", (1, taps, INTERLEAVE), "int8")
            with loop("p", channels // INTERLEAVE) as p:
                weight.unpack_pair(isa.intrinsic, tile, p)
                with loop("h", INTERLEAVE) as h:
                    isa.filter_channel(out, x, p * INTERLEAVE + h, line, tile, 0, bias, multiplier, activation)

    kind = "activate" if table else "requantize"
    label = "" if form is None else f"_{form.label}"
    return prim_func(f"row_block_filter_{kind}_{taps}x{channels}{label}", body, compact=False)
