"""Causal depthwise convolution over time, with an epilogue.

acc[t, c] = bias[c] + sum_k x[t - taps + 1 + k, c] * weight[k, c], rows before the first are zero
"""

from __future__ import annotations

from tvm import tirx

from embbert_tvm.kernels.builder import argument, block, i32, init, length, loop, prim_func, store, workspace


def depthwise_conv(taps: int, channels: int, epilogue: object, row: int | None = None) -> tirx.PrimFunc:
    """Arguments: x int8 (L, channels); weight int8 (taps, channels); bias int32 (channels,); the epilogue's own;
    out (L or 1, channels). row: compute only this one."""

    def body() -> None:
        rows = length()
        x = argument("x", (rows, channels), "int8")
        weight = argument("weight", (taps, channels), "int8")
        bias = argument("bias", (channels,), "int32")
        params = epilogue.arguments(channels)
        out_rows = rows if row is None else 1
        out = argument("out", (out_rows, channels), epilogue.dtype)
        with loop("t", out_rows) as t, block("row", vt=("S", out_rows, t)) as vt:
            acc = workspace("acc", (channels,), "int32")
            with loop("k", taps) as k, loop("c", channels) as c:
                with block("conv", vk=("R", taps, k), vc=("S", channels, c)) as (vk, vc):
                    with init():
                        store(acc, bias[vc], vc)
                    past = (vt if row is None else row) + vk - (taps - 1)
                    tap = tirx.if_then_else(past >= 0, i32(x[tirx.max(past, 0), vc]), i32(0))
                    store(acc, acc[vc] + tap * i32(weight[vk, vc]), vc)
            epilogue.row(acc, params, out, vt, channels)

    one = "" if row is None else f"row{row}_"
    return prim_func(f"depthwise_conv_{one}{epilogue.name}_{taps}x{channels}", body)
