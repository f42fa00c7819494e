"""How the rows of an int8 matrix lie in memory.

A row-interleaved matrix (ceil(L / ROWS) * ROWS / 2, K, 2) holds rows 2i and 2i + 1 side by side: a word of it is two
neighbouring columns of two rows, of which a tile of two columns of output, or two rows of keys, is made. Its rows come
in whole blocks of ROWS; rows past the length hold anything and are never read into a result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROWS = 4  # of a block: what one pass over the weights serves
INTERLEAVE = 2  # rows side by side

# Layouts of a weight for one micro-kernel (row_block/spec.py, `Linear.packing`): kernels/raw_words.py, mve_codes.py,
# dsp_codes.py, lookup.py.
RAW_WORDS, MVE_CODES, DSP_CODES, LOOKUP = "raw words", "mve codes", "dsp codes", "lookup"


@dataclass(frozen=True)
class Layout:
    """interleave: rows side by side; 1 for plain rows (L, K)."""

    interleave: int = 1


PLAIN, INTERLEAVED = Layout(), Layout(INTERLEAVE)


def pairs_of(rows):
    """Pairs of rows in an interleaved matrix of `rows` rows, in whole blocks."""
    return (rows + (ROWS - 1)) // ROWS * (ROWS // INTERLEAVE)


def interleave(matrix: np.ndarray) -> np.ndarray:
    """(n, k) with n even as (n / 2, k, 2)."""
    n, k = matrix.shape
    return np.ascontiguousarray(matrix.reshape(n // INTERLEAVE, INTERLEAVE, k).transpose(0, 2, 1))
