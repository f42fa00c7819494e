"""The fixed-point arithmetic that every integer kernel is made of.

One primitive scales: `multiply_high(a, m)` is round(a * m / 2**32), ties upward, exact in 64 bits. It is one
instruction on a Cortex-M with DSP (SMMULR) and on one with MVE (VRMULH). A multiplier stands for the real number
m / 2**32.
"""

from __future__ import annotations

import numpy as np
from tvm import tirx

from embbert_tvm.kernels.builder import i32, i64

ONE = 2.0**32


def multiply_high(a, m):
    """round(a * m / 2**32) of two int32, as int32."""
    product = i64(a) * i64(m)
    return i32((product + i64(1 << 31)) >> i64(32))


def clamp(value):
    """An int32 clamped to [-128, 127], still int32: SSAT on a Cortex-M, VQMOVN with MVE."""
    return tirx.max(tirx.min(value, i32(127)), i32(-128))


def saturate(value):
    """`clamp` as int8."""
    return tirx.Cast("int8", clamp(value))


def saturate_wide(value):
    """An int32 clamped to [-32768, 32767], as int16."""
    return tirx.Cast("int16", tirx.max(tirx.min(value, i32(32767)), i32(-32768)))


def saturate_unsigned(value):
    """An int32 clamped to [0, 255], as int32: an index of a table."""
    return tirx.max(tirx.min(value, i32(255)), i32(0))


def rescaled(scale: float, wanted: float, bits: int) -> tuple[np.ndarray, float]:
    """What brings one tensor of steps of `scale`, shifted up by so many bits, to int8: the multiplier (1,) and the
    scale that it gives exactly, which is `wanted` or the next coarser one."""
    # Just below one half at most.
    factor = min(max(int(scale / wanted * 2.0 ** (32 - bits)), 1), 2**31 - 1)
    return np.array([factor], np.int32), scale * 2.0 ** (32 - bits) / factor


def multiplier(real: np.ndarray) -> np.ndarray:
    """The int32 multipliers for real factors in (-0.5, 0.5).

    Raises ValueError for a factor that does not fit.
    """
    fixed = np.rint(np.asarray(real, np.float64) * ONE)
    if np.abs(fixed).max(initial=0) >= 2**31:
        raise ValueError(f"the factor {np.abs(real).max()} is not below 0.5")
    return fixed.astype(np.int32)
