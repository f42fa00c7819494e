"""What becomes of a row of int32 accumulators: the last step of a product.

An accumulator of channel j stands for the real number acc[j] * scale[j]. An epilogue declares its own parameters
(multipliers and gains, which are those at `compressed`, stored in `dtype`) and the output's type, and writes one row.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import argument, block, i32, i64, init, loop, store, workspace
from embbert_tvm.kernels.fixed_point import multiply_high, saturate, saturate_wide
from embbert_tvm.kernels.low_bits import constants

# rms_norm: bits of the normalized row, t / |t|, before the gain.
NORM_BITS = 23


@dataclass(frozen=True)
class Requantize:
    """out[j] = saturate(multiply_high(acc[j], multiplier[j])), int8."""

    name = "requantize"
    dtype = "int8"
    compressed = (0,)

    def arguments(self, n: int, dtype: str = "int32") -> list:
        return [constants("multiplier", (n,), dtype)]

    def row(self, acc, params: list, out, i, n: int) -> None:
        (multiplier,) = params
        with loop("j", n) as j, block("requantize", vj=("S", n, j)) as vj:
            store(out, saturate(multiply_high(acc[vj], multiplier[vj])), i, vj)


@dataclass(frozen=True)
class RequantizeWide:
    """out[j] = saturate_wide(multiply_high(acc[j], multiplier[j])), int16: a residual path that outgrows int8."""

    name = "requantize_wide"
    dtype = "int16"
    compressed = (0,)

    def arguments(self, n: int, dtype: str = "int32") -> list:
        return [constants("multiplier", (n,), dtype)]

    def row(self, acc, params: list, out, i, n: int) -> None:
        (multiplier,) = params
        with loop("j", n) as j, block("requantize", vj=("S", n, j)) as vj:
            store(out, saturate_wide(multiply_high(acc[vj], multiplier[vj])), i, vj)


@dataclass(frozen=True)
class Activate:
    """out[j] = table[128 + clamp(multiply_high(acc[j], multiplier[j]), -128, 127)], int8: any function of one real."""

    name = "activate"
    dtype = "int8"
    compressed = (0,)

    def arguments(self, n: int, dtype: str = "int32") -> list:
        return [constants("multiplier", (n,), dtype), argument("table", (256,), "int8")]

    def row(self, acc, params: list, out, i, n: int) -> None:
        multiplier, table = params
        with loop("j", n) as j, block("activate", vj=("S", n, j)) as vj:
            level = tirx.max(tirx.min(multiply_high(acc[vj], multiplier[vj]), i32(127)), i32(-128))
            store(out, table[level + 128], i, vj)


@dataclass(frozen=True)
class Dequantize:
    """out[j] = float(acc[j]) * scale[j]: one rounding of the conversion, one of the product."""

    name = "dequantize"
    dtype = "float32"
    compressed = ()

    def arguments(self, n: int, dtype: str = "int32") -> list:
        return [argument("scale", (n,), "float32")]

    def row(self, acc, params: list, out, i, n: int) -> None:
        (scale,) = params
        with loop("j", n) as j, block("dequantize", vj=("S", n, j)) as vj:
            store(out, tirx.Cast("float32", acc[vj]) * scale[vj], i, vj)


@dataclass(frozen=True)
class RmsNorm:
    """out[j] = saturate(gain[j] * t[j] / |t|), int8, with t[j] = multiply_high(acc[j], channel_rescale[j]).

    `channel_rescale` brings the channels to one scale, which the norm then divides away: the row is normalized from its
    exact accumulators. |t| = sqrt(sum t^2 + epsilon) is taken as an integer: the sum is shifted by an even number of
    bits to [2^28, 2^30), its root found bit by bit, the root's reciprocal by one division. `gain` is
    g * sqrt(n) / scale_out * 2^(32 - NORM_BITS).
    """

    name = "rms_norm"
    dtype = "int8"
    compressed = (0, 2)

    def arguments(self, n: int, dtype: str = "int32") -> list:
        return [
            constants("channel_rescale", (n,), dtype),
            argument("epsilon", (1,), "int32"),
            constants("gain", (n,), dtype),
        ]

    def row(self, acc, params: list, out, i, n: int) -> None:
        channel_rescale, epsilon, gain = params
        scaled, square_sum = workspace("scaled", (n,), "int32"), workspace("square_sum", (1,), "int64")
        shift, inverse = workspace("shift", (1,), "int32"), workspace("inverse", (1,), "int32")
        with loop("j", n) as j, block("channel_rescale", vj=("S", n, j)) as vj:
            store(scaled, multiply_high(acc[vj], channel_rescale[vj]), vj)
        with loop("j", n) as j, block("square_sum", vj=("R", n, j)) as vj:
            with init():
                store(square_sum, i64(epsilon[0]), 0)
            store(square_sum, square_sum[0] + i64(scaled[vj]) * i64(scaled[vj]), 0)
        with T.sblock("reciprocal_root"):
            reciprocal_root(square_sum, shift, inverse)
        with loop("j", n) as j, block("normalize", vj=("S", n, j)) as vj:
            unit = multiply_high(scaled[vj] * (i32(1) << (i32(16) - shift[0])), inverse[0])
            store(out, saturate(multiply_high(unit, gain[vj])), i, vj)


# layer_norm: fraction bits of what the gain makes and the shift is added to.
SHIFT_BITS = 8


@dataclass(frozen=True)
class LayerNorm:
    """out[j] = saturate((gain[j] * c[j] / |c| + shift[j]) >> SHIFT_BITS), int8, c[j] = t[j] - mean(t), t as RmsNorm's.

    |c| = sqrt(sum c^2 + epsilon), as RmsNorm's |t|. The mean is cut to an integer. `gain` is
    g * sqrt(n) / scale_out * 2^(32 - NORM_BITS + SHIFT_BITS); `shift` holds the half that rounds.
    """

    name = "layer_norm"
    dtype = "int8"
    compressed = (0, 2)

    def arguments(self, n: int, dtype: str = "int32") -> list:
        return [*RmsNorm().arguments(n, dtype), argument("shift", (n,), "int32")]

    def row(self, acc, params: list, out, i, n: int) -> None:
        channel_rescale, epsilon, gain, offset = params
        scaled, square_sum = workspace("scaled", (n,), "int32"), workspace("square_sum", (1,), "int64")
        shift, inverse = workspace("shift", (1,), "int32"), workspace("inverse", (1,), "int32")
        total, mean = workspace("sum", (1,), "int64"), workspace("mean", (1,), "int32")
        with loop("j", n) as j, block("channel_rescale", vj=("S", n, j)) as vj:
            store(scaled, multiply_high(acc[vj], channel_rescale[vj]), vj)
        with loop("j", n) as j, block("sum", vj=("R", n, j)) as vj:
            with init():
                store(total, i64(0), 0)
            store(total, total[0] + i64(scaled[vj]), 0)
        with T.sblock("mean"):
            store(mean, i32(tirx.truncdiv(total[0], i64(n))), 0)
        with loop("j", n) as j, block("square_sum", vj=("R", n, j)) as vj:
            with init():
                store(square_sum, i64(epsilon[0]), 0)
            centred = i64(scaled[vj] - mean[0])
            store(square_sum, square_sum[0] + centred * centred, 0)
        with T.sblock("reciprocal_root"):
            reciprocal_root(square_sum, shift, inverse)
        with loop("j", n) as j, block("normalize", vj=("S", n, j)) as vj:
            unit = multiply_high((scaled[vj] - mean[0]) * (i32(1) << (i32(16) - shift[0])), inverse[0])
            store(out, saturate((multiply_high(unit, gain[vj]) + offset[vj]) >> i32(SHIFT_BITS)), i, vj)


def reciprocal_root(square_sum, shift, inverse) -> None:
    """Compute from s = square_sum[0] in [1, 2^60) h = shift[0] and r = inverse[0] with r ~ 2^39 / sqrt(s / 4^h).

    Then multiply_high(t << (16 - h), r) is t / sqrt(s) in NORM_BITS bits, for any |t| <= sqrt(s).
    """
    mantissa, root = workspace("mantissa", (1,), "int64"), workspace("root", (1,), "int32")
    level, step = workspace("level", (1,), "int32"), workspace("step", (1,), "int32")
    store(mantissa, square_sum[0], 0)
    store(shift, i32(0), 0)
    with loop("bit", 5) as bit:
        large = (mantissa[0] >> (i64(32) >> i64(bit))) >= i64(1 << 28)
        # What is large is read from the mantissa, so the shift that it adds up to is stored first.
        store(shift, shift[0] + tirx.Select(large, i32(16) >> bit, i32(0)), 0)
        store(mantissa, square_sum[0] >> (i64(2) * i64(shift[0])), 0)
    store(level, i32(mantissa[0]), 0)
    with loop("bit", 4) as bit:
        store(step, tirx.Select(level[0] < (i32(1 << 30) >> (i32(16) >> bit)), i32(8) >> bit, i32(0)), 0)
        store(shift, shift[0] - step[0], 0)
        store(level, level[0] << (i32(2) * step[0]), 0)
    store(root, i32(0), 0)
    with loop("bit", 15) as bit:
        trial = root[0] | (i32(1 << 14) >> bit)
        store(root, tirx.Select(trial * trial <= level[0], trial, root[0]), 0)
    store(inverse, tirx.truncdiv(i32(2**31 - 1), root[0]) << i32(8), 0)
