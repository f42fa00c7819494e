"""Constants of quantized operators as kernels read them: for row blocks padded to an instruction set's widths and
row-interleaved, weights below 8 bits in codes, vectors in the bits that they are stored in. The values stay the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from embbert_tvm.graph.dataflow import Expr, constant
from embbert_tvm.graph.names import fingerprint
from embbert_tvm.graph.quantize.low_bits import Blocks
from embbert_tvm.kernels.depthwise_conv import DepthwiseConv
from embbert_tvm.kernels.dsp_codes import block_columns as dsp_block_columns
from embbert_tvm.kernels.dsp_codes import pack_four_rows
from embbert_tvm.kernels.isa import Isa
from embbert_tvm.kernels.layouts import DSP_CODES, LOOKUP, MVE_CODES, RAW_WORDS, interleave
from embbert_tvm.kernels.lookup import COLUMNS as LOOKUP_COLUMNS
from embbert_tvm.kernels.lookup import pack_lookup
from embbert_tvm.kernels.low_bits import COMPRESSED, ROWS, WeightFormat, compressed, pack_codes, pack_multipliers
from embbert_tvm.kernels.mve_codes import block_columns, pack_block_multipliers, pack_levels
from embbert_tvm.kernels.product import Product, ProductInput
from embbert_tvm.kernels.raw_words import fits_raw_words, pack_raw_words


class UnpackableError(Exception):
    """Why constants cannot be laid out for block kernels."""


class Constants:
    """The constants of a module by the fingerprint of their content.

    blocks: what those of fewer than 8 bits are made of. names: what the C calls each; new ones take the name of what
    they were made from.
    """

    def __init__(self, blocks: dict[str, Blocks], names: dict[str, str]) -> None:
        self.blocks, self.names = blocks, names

    def blocks_of(self, value: np.ndarray) -> Blocks | None:
        return self.blocks.get(fingerprint(value)) if value.dtype == np.int8 else None

    def renamed(self, old: np.ndarray, new: np.ndarray, suffix: str = "") -> np.ndarray:
        """`new`, to be known by the name of `old` and a suffix."""
        key = fingerprint(new)
        if key not in self.names and fingerprint(old) in self.names:
            base = f"{self.names[fingerprint(old)]}{suffix}"
            name, taken, count = base, set(self.names.values()) if suffix else set(), 2
            while name in taken:
                name, count = f"{base}_{count}", count + 1
            self.names[key] = name
        return new


def padded_vector(vector: np.ndarray, parts: Sequence[tuple[int, int]]) -> np.ndarray:
    """The last axis of (..., n), cut in parts (columns, with padding), each filled up with 0."""
    pieces, first = [], 0
    for columns, wide in parts:
        piece = vector[..., first : first + columns]
        pieces.append(np.pad(piece, [(0, 0)] * (vector.ndim - 1) + [(0, wide - columns)]))
        first += columns
    return np.ascontiguousarray(np.concatenate(pieces, -1))


def _padded(matrix: np.ndarray, rows: Sequence, columns: Sequence, k: int) -> np.ndarray:
    """(n, k') with rows and columns padded in parts, and columns filled up to k."""
    wide = padded_vector(padded_vector(matrix, columns).T, rows).T
    return np.pad(wide, ((0, 0), (0, k - wide.shape[1])))


def weight(
    constants: Constants,
    values: Sequence[np.ndarray],
    rows: Sequence[tuple[int, int]],
    columns: Sequence[tuple[int, int]],
    k: int,
    isa: Isa,
) -> tuple[list[np.ndarray], WeightFormat | None, str | None]:
    """Products' weights (n, k'), one under another, as a row-block kernel's parameters, their format and packing.

    rows, columns: parts with their padding. k: columns that the kernel reads. isa: whose micro-kernels read them.
    Raises UnpackableError where blocks of low-bit weights do not meet the padded ones.
    """
    all_blocks = [constants.blocks_of(v) for v in values]
    first = values[0]
    if all(b is None for b in all_blocks):
        made = interleave(_padded(np.concatenate(values), rows, columns, k))
        if isa.takes_raw(k) and fits_raw_words(made):
            return [constants.renamed(first, pack_raw_words(made))], None, RAW_WORDS
        return [constants.renamed(first, made)], None, None
    if any(b is None or b.format != all_blocks[0].format for b in all_blocks):
        raise UnpackableError("weights of several formats in one product")
    weight_format = all_blocks[0].format
    levels = _padded(np.concatenate([b.levels for b in all_blocks]), rows, columns, k)
    if levels.shape != first.shape and (weight_format.first > 0 or -weight_format.first % weight_format.step):
        raise UnpackableError(f"{weight_format.name} weights have no 0 to pad with")
    spread = _padded(np.concatenate([b.spread() for b in all_blocks]), rows, columns, k)
    packing = isa.codes_packing(weight_format, len(levels), k)
    if packing == DSP_CODES:
        return [_four_rows(constants, first, levels, spread, weight_format)], weight_format, packing
    if packing == LOOKUP:
        multipliers = _multipliers(spread, levels, replace(weight_format, block=LOOKUP_COLUMNS))
        return [constants.renamed(first, pack_lookup(levels, multipliers), "_lookup")], weight_format, packing
    if packing == MVE_CODES:
        multipliers = _multipliers(spread, levels, replace(weight_format, block=block_columns(weight_format.bits)))
        codes = constants.renamed(first, pack_levels(interleave(levels), weight_format.bits), "_interleaved")
        parts = [codes, constants.renamed(first, pack_block_multipliers(multipliers), "_multipliers")]
        return parts, weight_format, packing
    parts = [constants.renamed(first, pack_codes(weight_format, interleave(levels)), "_interleaved")]
    if weight_format.block is not None:
        multipliers = _multipliers(spread, levels, weight_format)
        parts.append(constants.renamed(first, pack_multipliers(multipliers), "_multipliers"))
    return parts, weight_format, None


def _four_rows(
    constants: Constants, first: np.ndarray, levels: np.ndarray, spread: np.ndarray, weight_format: WeightFormat
) -> np.ndarray:
    columns = dsp_block_columns(weight_format, levels.shape[1])
    multipliers = _multipliers(spread, levels, replace(weight_format, block=columns))
    return constants.renamed(first, pack_four_rows(levels, multipliers, weight_format, columns), "_four_rows")


def _multipliers(spread: np.ndarray, levels: np.ndarray, weight_format: WeightFormat) -> np.ndarray:
    """The multiplier of each block of a padded matrix, from those of its weights."""
    n, k = levels.shape
    found = np.ones((-(-n // ROWS), weight_format.columns(k)), np.uint8)
    for i in range(found.shape[0]):
        for j in range(found.shape[1]):
            part = np.s_[i * ROWS : (i + 1) * ROWS, j * weight_format.block : (j + 1) * weight_format.block]
            used = np.unique(spread[part][levels[part] != 0])
            if len(used) > 1:
                raise UnpackableError("padding would cut blocks of low-bit weights")
            found[i, j] = used[0] if len(used) else 1
    return found


def filters(
    constants: Constants, value: np.ndarray, wide: int, by_channel: bool
) -> tuple[list[np.ndarray], WeightFormat | None]:
    """A filter's weight (taps, channels), as (channels / 2, taps, 2), if `by_channel` (channels, taps), or its codes.

    Channels are filled up to `wide`.
    """
    channels = value.shape[1]
    blocks = constants.blocks_of(value)
    if blocks is None:
        padded = np.pad(value.T, ((0, wide - channels), (0, 0)))
        made = np.ascontiguousarray(padded) if by_channel else interleave(padded)
        return [constants.renamed(value, made)], None
    if wide != channels:
        raise UnpackableError("padding would cut blocks of low-bit filters")
    parts = [constants.renamed(value, pack_codes(blocks.format, interleave(blocks.levels)), "_interleaved")]
    if blocks.format.block is not None:
        parts.append(constants.renamed(value, pack_multipliers(blocks.multipliers), "_multipliers"))
    return parts, blocks.format


def taps(constants: Constants, value: np.ndarray, expansion: int) -> tuple[int, np.ndarray]:
    """A filter's weight (taps, channels) as a block of rows reads it, and its taps, an even number.

    With an even number of filters a channel, two of them side by side: (channels / 2, taps, 2). Else int16
    (channels, taps / 2 + 1, 2, 2): for each pair of samples the taps that meet it for an odd output, then for an even.
    """
    if len(value) % 2:
        value = constants.renamed(value, np.concatenate([np.zeros_like(value[:1]), value]))
    count, channels = value.shape
    if expansion % 2 == 0:
        return count, constants.renamed(value, interleave(np.ascontiguousarray(value.T)))
    made = np.zeros((channels, count // 2 + 1, 2, 2), np.int16)
    made[:, :-1, 0, 0], made[:, :-1, 0, 1] = value[::2].T, value[1::2].T
    made[:, :-1, 1, 1], made[:, 1:, 1, 0] = value[::2].T, value[1::2].T
    return count, constants.renamed(value, made, "_laid_out")


def dilated(constants: Constants, value: np.ndarray, dilation: int) -> np.ndarray:
    """A filter's weight (taps, channels) with the taps between those that are `dilation` rows apart, which are 0."""
    if dilation == 1:
        return value
    made = np.zeros((dilation * (len(value) - 1) + 1, value.shape[1]), value.dtype)
    made[::dilation] = value
    return constants.renamed(value, made, "_dilated")


def plain(constants: Constants, value: np.ndarray) -> tuple[list[np.ndarray], WeightFormat | None]:
    """A table (rows, width) as it is, or in codes."""
    blocks = constants.blocks_of(value)
    if blocks is None:
        return [value], None
    parts = [constants.renamed(value, pack_codes(blocks.format, blocks.levels), "_codes")]
    if blocks.format.block is not None:
        parts.append(constants.renamed(value, pack_multipliers(blocks.multipliers), "_multipliers"))
    return parts, blocks.format


def vector(constants: Constants, value: np.ndarray, parts: Sequence[tuple[int, int]], dtype: str | None) -> np.ndarray:
    """A vector (..., n) padded in parts and stored in `dtype` where it is given."""
    made = padded_vector(value, parts) if any(a != b for a, b in parts) else value
    if dtype is not None:
        return constants.renamed(value, compressed(made, dtype), f"_{dtype}")
    return constants.renamed(value, made)


# Of kernels that work a row at a time.


def row_product(constants: Constants, spec: Product, args: Sequence[Expr], isa: Isa) -> tuple[Product, list]:
    """A product's spec and arguments as they are stored. isa: whose micro-kernels read its weight."""
    rest, made = iter(args), []

    def read(source: ProductInput) -> ProductInput:
        weight_format = _matrix(constants, next(rest), made)
        made.extend([next(rest)] if source.indexed else [])
        return replace(source, weight_format=weight_format)

    sources = tuple(map(read, spec.sources))
    weight_format = packing = None
    if sources:
        laid_out = isa.rows_intrinsic and spec.row_dtype == "int8"
        weight_format, packing = _row_weight(constants, next(rest), made, isa, laid_out)
    stored = replace(spec, sources=sources, weight_format=weight_format, packing=packing)
    bias_dtype = COMPRESSED[0] if stored.compressed else None
    made.append(_stored(constants, next(rest), bias_dtype))
    for _ in spec.small_tables:
        made += [_stored(constants, next(rest), bias_dtype), next(rest)]
    residuals = []
    for residual in spec.residuals:
        residuals.append(read(residual))
        made.append(next(rest))
    stored = replace(stored, residuals=tuple(residuals))
    return stored, made + _epilogue(constants, spec.epilogue, rest, stored.compressed)


def _row_weight(
    constants: Constants, expr: Expr, made: list, isa: Isa, laid_out: bool
) -> tuple[WeightFormat | None, str | None]:
    """Append a product's weight, as `_matrix` or, if `laid_out`, as a micro-kernel's codes; its format and packing."""
    value = constant(expr)
    blocks = None if value is None else constants.blocks_of(value)
    if blocks is None or isa.codes_packing(blocks.format, *value.shape, True) != DSP_CODES or not laid_out:
        return _matrix(constants, expr, made), None
    made.append(_four_rows(constants, value, blocks.levels, blocks.spread(), blocks.format))
    return blocks.format, DSP_CODES


def row_filter(constants: Constants, spec: DepthwiseConv, args: Sequence[Expr]) -> tuple[DepthwiseConv, list]:
    """A convolution's, likewise."""
    x, weight, bias, *rest = args
    made = [x]
    weight_format = _matrix(constants, weight, made)
    made.append(_stored(constants, bias, COMPRESSED[0] if weight_format else None))
    return replace(spec, weight_format=weight_format), made + _epilogue(
        constants, spec.epilogue, iter(rest), weight_format is not None
    )


def _matrix(constants: Constants, expr: Expr, made: list) -> WeightFormat | None:
    """Append an int8 tensor as it is, or a constant in codes with the multipliers of its blocks; its format then."""
    value = constant(expr)
    if value is None or constants.blocks_of(value) is None:
        made.append(expr)
        return None
    parts, weight_format = plain(constants, value)
    made += parts
    return weight_format


def _stored(constants: Constants, expr: Expr, dtype: str | None) -> Expr | np.ndarray:
    return expr if dtype is None else vector(constants, constant(expr), (), dtype)


def _epilogue(constants: Constants, epilogue: object, rest: Iterator[Expr], compressed: bool) -> list:
    dtype = COMPRESSED[1] if compressed else None
    return [_stored(constants, value, dtype if i in epilogue.compressed else None) for i, value in enumerate(rest)]
