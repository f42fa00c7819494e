"""Between int8 and float32, at the borders of what has no integer kernel."""

from __future__ import annotations

from tvm import tirx

from embbert_tvm.kernels.builder import argument, block, i32, length, loop, prim_func, store
from embbert_tvm.kernels.fixed_point import saturate


def quantize(width: int) -> tirx.PrimFunc:
    """out[i, k] = saturate(floor(x[i, k] * inverse_scale + 0.5)). x float32 (1, L, width), inverse_scale float32 (1,),
    out int8 (L, width)."""

    def body() -> None:
        rows = length()
        x = argument("x", (1, rows, width), "float32")
        inverse_scale = argument("inverse_scale", (1,), "float32")
        out = argument("out", (rows, width), "int8")
        with loop("i", rows) as i, loop("k", width) as k:
            with block("quantize", vi=("S", rows, i), vk=("S", width, k)) as (vi, vk):
                half = tirx.const(0.5, "float32")
                bound = tirx.const(128.0, "float32")
                level = tirx.max(tirx.min(x[0, vi, vk] * inverse_scale[0], bound), -bound)
                store(out, saturate(i32(tirx.floor(level + half))), vi, vk)

    return prim_func(f"quantize_{width}", body)


def dequantize(width: int) -> tirx.PrimFunc:
    """out[i, k] = float(x[i, k]) * scale. x int8 (L, width), scale float32 (1,), out float32 (1, L, width)."""

    def body() -> None:
        rows = length()
        x = argument("x", (rows, width), "int8")
        scale = argument("scale", (1,), "float32")
        out = argument("out", (1, rows, width), "float32")
        with loop("i", rows) as i, loop("k", width) as k:
            with block("dequantize", vi=("S", rows, i), vk=("S", width, k)) as (vi, vk):
                store(out, tirx.Cast("float32", x[vi, vk]) * scale[0], 0, vi, vk)

    return prim_func(f"dequantize_{width}", body)
