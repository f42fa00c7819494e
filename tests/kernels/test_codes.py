"""Codes in memory: the C that unpacks them against the int8 that they stand for."""

import ctypes

import numpy as np
import pytest
import small
from running import compile_c

from embbert_tvm.graph.quantize.low_bits import nearest
from embbert_tvm.kernels.layouts import interleave
from embbert_tvm.kernels.low_bits import FORMATS, pack_codes, pack_multipliers, rows_unpack

STORED = [weight_format for weight_format in FORMATS.values() if weight_format.stored]


def unpacked(
    weight_format,
    codes: np.ndarray,
    multipliers: np.ndarray,
    planes: int,
    at: int,
    first: int,
    count: int,
    interleave: int,
):
    """`count` weights from `first` on, by the C of the host."""
    widths = {6: (4, 2), 3: (2, 1)}.get(weight_format.bits, (weight_format.bits, 0))
    block = 0 if weight_format.block is None else weight_format.block * interleave
    numbers = ", ".join(map(str, (block, *widths, weight_format.first, weight_format.step, weight_format.most)))
    source = f"""#include "embbert_low_bits.h"
void unpack(int8_t *out, const uint8_t *low, const uint8_t *high, const uint8_t *m, int32_t at, int32_t count);
void unpack(int8_t *out, const uint8_t *low, const uint8_t *high, const uint8_t *m, int32_t at, int32_t count)
{{
    embbert_unpack(out, low, high, m, at, count, {numbers});
}}
"""
    library = ctypes.CDLL(str(compile_c([source])))
    out = np.zeros(count, np.int8)
    low = codes[first * widths[0] // 8 :]
    high = codes[planes + first * widths[1] // 8 :]
    pointers = (x.ctypes.data_as(ctypes.c_void_p) for x in (out, low, high, multipliers))
    library.unpack(*pointers, at, count)
    return out


@pytest.mark.parametrize("weight_format", STORED, ids=lambda weight_format: weight_format.label)
def test_codes_are_the_weights(weight_format):
    n, k = 6, 64
    blocks = nearest(small.normal(n, k), weight_format.within(k))
    weight_format = blocks.format
    multipliers = pack_multipliers(blocks.multipliers)
    planes = weight_format.plane_bytes(n * k)[0]
    codes = pack_codes(weight_format, interleave(blocks.levels))
    assert len(codes) == n * k * weight_format.bits // 8
    for pair in range(n // 2):
        found = unpacked(
            weight_format, codes, multipliers, planes, pair * weight_format.columns(k), pair * 2 * k, 2 * k, 2
        )
        assert np.array_equal(found.reshape(k, 2), interleave(blocks.weight)[pair])
    if not rows_unpack(weight_format, k):
        return  # a row of such blocks is no whole words: it is read a code at a time
    codes = pack_codes(weight_format, blocks.levels)
    for row in range(n):
        found = unpacked(weight_format, codes, multipliers, planes, row // 2 * weight_format.columns(k), row * k, k, 1)
        assert np.array_equal(found, blocks.weight[row])


@pytest.mark.parametrize("count", [1, 13, 31, 33])
@pytest.mark.parametrize("label", ["int6", "int4", "int3", "int2", "binary"])
def test_codes_that_end_inside_a_word_are_all_there(label, count):
    """Each plane is whole words, the last filled up: code n lies in byte n % 4 of its word, the first codes lowest."""
    weight_format = FORMATS[label]
    levels = weight_format.first + weight_format.step * np.arange(count) % (weight_format.step * weight_format.count)
    codes, at = pack_codes(weight_format, levels), 0
    found = np.zeros(count, int)
    for bits, low in weight_format.planes:
        words = -(-count * bits // 32)
        plane = codes[at : at + 4 * words].reshape(words, 4)
        per_word = 32 // bits
        for n in range(count):
            inside = n % per_word
            found[n] += (int(plane[n // per_word, inside % 4]) >> inside // 4 * bits & (1 << bits) - 1) << low
        at += 4 * words
    assert at == len(codes)
    assert np.array_equal(weight_format.first + weight_format.step * found, levels)
