"""A causal depthwise filter along the text on row-interleaved rows, one channel after another."""

from __future__ import annotations

import functools

from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import argument, length, loop, prim_func, workspace
from embbert_tvm.kernels.isa import Isa
from embbert_tvm.kernels.layouts import INTERLEAVE
from embbert_tvm.kernels.low_bits import COMPRESSED, UNCOMPRESSED, WeightFormat, constants, stored


@functools.cache
def filter_along_text(
    taps: int, channels: int, isa: Isa, weight_format: WeightFormat | None = None, table: bool = True
):
    """depthwise_conv() of DepthwiseConv(taps, channels, Activate() or Requantize()), on row-interleaved rows.

    Arguments: x int8 (M, channels, 2); weight int8 (channels / 2, taps, 2), (channels, taps) where the instruction set
    has by_channel filters, or its codes; bias, multiplier int32
    (channels,); table int8 (256,), if any; out int8 (M, channels, 2).
    """
    bias_dtype, scale_dtype = UNCOMPRESSED if weight_format is None else COMPRESSED

    def body() -> None:
        pairs = length("M")
        x = argument("x", (pairs, channels, INTERLEAVE), "int8")
        by_channel = weight_format is None and isa.filters_by_channel
        weight = stored(
            "weight", (channels, taps) if by_channel else (channels // INTERLEAVE, taps, INTERLEAVE), weight_format
        )
        bias = constants("bias", (channels,), bias_dtype)
        multiplier = constants("multiplier", (channels,), scale_dtype)
        activation = argument("table", (256,), "int8") if table else None
        out = argument("out", (pairs, channels, INTERLEAVE), "int8")
        with T.sblock("filter"):
            line = isa.line(taps, pairs, activation)
            tile = None if weight_format is None else workspace("tile", (1, taps, INTERLEAVE), "int8")
            with loop("p", channels // INTERLEAVE) as p:
                if tile is None:
                    isa.filter_channels(out, x, line, weight, p, p, bias, multiplier, activation)
                else:
                    weight.unpack_pair(isa.intrinsic, tile, p)
                    isa.filter_channels(out, x, line, tile, 0, p, bias, multiplier, activation)

    kind = "activate" if table else "requantize"
    label = "" if weight_format is None else f"_{weight_format.label}"
    return prim_func(f"row_block_filter_{kind}_{taps}x{channels}{label}", body, compact=False)
