"""Between the types of rows: float32 at the borders of what has no integer kernel, int16 where a residual path is."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from embbert_tvm.kernels.builder import argument, block, i32, length, loop, prim_func, store
from embbert_tvm.kernels.fixed_point import multiply_high, saturate, saturate_wide

# A row of int16 is shifted up by this much before it is scaled down to int8.
RESCALE_BITS = 15


@dataclass(frozen=True)
class Rescale:
    """int16 rows to int8 rows. row: of which only this one is read. x is read as ROW."""

    width: int
    row: int | None = None

    @property
    def name(self) -> str:
        return f"rescale_{'' if self.row is None else f'row{self.row}_'}{self.width}"


def rescale(spec: Rescale) -> tirx.PrimFunc:
    """out[i, k] = saturate(multiply_high(x[i, k] * 2^RESCALE_BITS, multiplier)). x int16 (L, width), multiplier int32
    (1,), out int8 (L or 1, width)."""

    def body() -> None:
        rows = length()
        x = argument("x", (rows, spec.width), "int16")
        multiplier = argument("multiplier", (1,), "int32")
        out_rows = rows if spec.row is None else 1
        out = argument("out", (out_rows, spec.width), "int8")
        with loop("i", out_rows) as i, loop("k", spec.width) as k:
            with block("rescale", vi=("S", out_rows, i), vk=("S", spec.width, k)) as (vi, vk):
                sample = x[vi if spec.row is None else spec.row, vk]
                store(out, saturate(multiply_high(i32(sample) * i32(2**RESCALE_BITS), multiplier[0])), vi, vk)

    return prim_func(spec.name, body)


def quantize(width: int, dtype: str = "int8") -> tirx.PrimFunc:
    """out[i, k] = floor(x[i, k] * inverse_scale + 0.5), saturated. x float32 (1, L, width), inverse_scale float32 (1,),
    out int8 or int16 (L, width)."""
    cast, most, name = {
        "int8": (saturate, 128.0, f"quantize_{width}"),
        "int16": (saturate_wide, 32768.0, f"quantize_wide_{width}"),
    }[dtype]

    def body() -> None:
        rows = length()
        x = argument("x", (1, rows, width), "float32")
        inverse_scale = argument("inverse_scale", (1,), "float32")
        out = argument("out", (rows, width), dtype)
        with loop("i", rows) as i, loop("k", width) as k:
            with block("quantize", vi=("S", rows, i), vk=("S", width, k)) as (vi, vk):
                half = tirx.const(0.5, "float32")
                bound = tirx.const(most, "float32")
                level = tirx.max(tirx.min(x[0, vi, vk] * inverse_scale[0], bound), -bound)
                store(out, cast(i32(tirx.floor(level + half))), vi, vk)

    return prim_func(name, body)


def dequantize(width: int, dtype: str = "int8") -> tirx.PrimFunc:
    """out[i, k] = float(x[i, k]) * scale. x int8 or int16 (L, width), scale float32 (1,), out float32 (1, L, width)."""

    def body() -> None:
        rows = length()
        x = argument("x", (rows, width), dtype)
        scale = argument("scale", (1,), "float32")
        out = argument("out", (1, rows, width), "float32")
        with loop("i", rows) as i, loop("k", width) as k:
            with block("dequantize", vi=("S", rows, i), vk=("S", width, k)) as (vi, vk):
                store(out, tirx.Cast("float32", x[vi, vk]) * scale[0], 0, vi, vk)

    return prim_func(f"dequantize_{'wide_' if dtype == 'int16' else ''}{width}", body)
