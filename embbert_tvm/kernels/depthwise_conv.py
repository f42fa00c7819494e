"""Depthwise convolution over time, with an epilogue.

acc[t, c] = bias[c] + sum_k x[t + after - dilation * (taps - 1 - k), c // expansion] * weight[k, c]

Rows before the first and after the last are zero. It is causal where `after` is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from embbert_tvm.kernels.builder import argument, block, i32, init, length, loop, prim_func, store, workspace
from embbert_tvm.kernels.low_bits import COMPRESSED, UNCOMPRESSED, WeightFormat, codes, constants


@dataclass(frozen=True)
class DepthwiseConv:
    """channels: of the output, `expansion` of them of each of the input. row: compute only this one.
    interleaved: x is row-interleaved (layouts.py), row is given; columns: that it has then with padding, if more.
    weight_format: of the weight where it is stored as codes; its vectors are compressed then. after: rows after t
    that it reads. dilation: rows from one tap to the next.

    x is read as WINDOW(dilation * (taps - 1) + 1), of which `after` rows lie ahead."""

    taps: int
    channels: int
    epilogue: object
    row: int | None = None
    interleaved: bool = False
    expansion: int = 1
    weight_format: WeightFormat | None = None
    columns: int | None = None
    after: int = 0
    dilation: int = 1

    @property
    def name(self) -> str:
        layout = f"{'interleaved_' if self.interleaved else ''}{'' if self.row is None else f'row{self.row}_'}"
        stored = "" if self.weight_format is None else f"_{self.weight_format.label}"
        times = "" if self.expansion == 1 else f"_by{self.expansion}"
        reach = "" if self.dilation == 1 else f"_every{self.dilation}"
        reach += "" if self.after == 0 else f"_after{self.after}"
        return f"depthwise_conv_{layout}{self.epilogue.name}_{self.taps}x{self.channels}{times}{reach}{stored}"


def depthwise_conv(spec: DepthwiseConv) -> tirx.PrimFunc:
    """Arguments: x int8 (L, channels / expansion); weight int8 (taps, channels); bias int32 (channels,); the
    epilogue's own; out (L or 1, channels). A weight of a `weight_format` is its codes, a row of taps for each channel;
    bias is int8 then, the epilogue's vectors int16 (low_bits.py)."""
    weight_format = spec.weight_format
    bias_dtype, scale_dtype = UNCOMPRESSED if weight_format is None else COMPRESSED
    taps, channels, epilogue, row = spec.taps, spec.channels, spec.epilogue, spec.row
    width = channels // spec.expansion

    def body() -> None:
        rows = length("M" if spec.interleaved else "L")
        x = argument("x", (rows, spec.columns or width, 2) if spec.interleaved else (rows, width), "int8")
        weight = (
            codes("weight", channels, taps, weight_format)
            if weight_format
            else argument("weight", (taps, channels), "int8")
        )
        bias = constants("bias", (channels,), bias_dtype)
        params = epilogue.arguments(channels, scale_dtype)
        out_rows = rows if row is None else 1
        out = argument("out", (out_rows, channels), epilogue.dtype)
        with loop("t", out_rows) as t, block("row", vt=("S", out_rows, t)) as vt:
            acc = workspace("acc", (channels,), "int32")
            with loop("k", taps) as k, loop("c", channels) as c:
                with block("conv", vk=("R", taps, k), vc=("S", channels, c)) as (vk, vc):
                    with init():
                        store(acc, bias[vc], vc)
                    past = (vt if row is None else row) + spec.dilation * vk - (spec.dilation * (taps - 1) - spec.after)
                    at = tirx.max(past, 0)
                    inside = past >= 0
                    if spec.after:
                        at, inside = tirx.min(at, rows - 1), tirx.all(inside, past < rows)
                    of = tirx.floordiv(vc, spec.expansion)
                    sample = x[tirx.floordiv(at, 2), of, tirx.floormod(at, 2)] if spec.interleaved else x[at, of]
                    tap = tirx.if_then_else(inside, i32(sample), i32(0))
                    filtered = weight.element(vc, vk) if weight_format else i32(weight[vk, vc])
                    store(acc, acc[vc] + tap * filtered, vc)
            epilogue.row(acc, params, out, vt, channels)

    return prim_func(spec.name, body)
