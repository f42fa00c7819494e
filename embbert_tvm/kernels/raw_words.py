"""Weights of a row-interleaved matrix as raw words, which embbert_dsp_dot_raw multiplies without taking them apart.

Two neighbouring rows lie side by side, byte by byte. A halfword of the two is 256 * second + (first as 0 to 255); a
multiplication by it as it is gives 256 times the second's product and the first's, which is known from elsewhere. For
that the halfword must be 256 * second + first: a negative first borrows one from the second.
"""

from __future__ import annotations

import numpy as np

from embbert_tvm.errors import InputError

MOST_COLUMNS = 512  # 2^7 * 2^7 * 2^8 times as many fit 32 bits


def fits_raw_words(weight: np.ndarray) -> bool:
    """Whether int8 (n / 2, k, 2) can be packed: every second row's weight can lend, and k is not too large."""
    return _borrowed(weight).min(initial=0) >= -128 and weight.shape[-2] <= MOST_COLUMNS


def _borrowed(weight: np.ndarray) -> np.ndarray:
    return weight[..., 1].astype(np.int16) - (weight[..., 0] < 0)


def pack_raw_words(weight: np.ndarray) -> np.ndarray:
    """int8 (n / 2, k, 2) of the same size. InputError where a second row has -128 beside a negative first, or k is
    more than MOST_COLUMNS."""
    borrowed = _borrowed(weight)
    if borrowed.min(initial=0) < -128:
        raise InputError("raw words: a weight of -128 cannot lend: quantize to -127 to 127")
    if weight.shape[-2] > MOST_COLUMNS:
        raise InputError(f"raw words: {weight.shape[-2]} columns, {MOST_COLUMNS} are the most whose sums fit")
    return np.stack([weight[..., 0], borrowed.astype(np.int8)], -1)


def unpack_raw_words(raw: np.ndarray) -> np.ndarray:
    """The inverse."""
    first, borrowed = raw[..., 0].astype(np.int16), raw[..., 1].astype(np.int16)
    return np.stack([first, borrowed + (first < 0)], -1).astype(np.int8)
