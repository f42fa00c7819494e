"""The int8 product: rows times weights, with one of the epilogues.

    acc[i, j] = bias[j] + sum_s sum_k source_s[row_s(i), k] * weight[j, offset_s + k] + sum_t table_t[ids_t[i], j]
              + (sum_a residual_a[row_a(i), j] * factor_a[j] + 2^(RESIDUAL_BITS - 1)) >> RESIDUAL_BITS

Several sources share one row of weights (their scales are folded into it), so a sum of linear maps is one product.
A source is a tensor of L rows or one, a constant table read at row i, or a constant table read at row ids[i] (an
embedding). A source of L rows may be read through a window of `taps` rows, which makes a convolution over time of the
product: its columns are those of rows i + after - dilation * (taps - 1 - t) for t from 0, zero where there is no such
row. A residual input is a source that no matrix multiplies: a residual path, of int8 or int16, or an embedding of the
full width.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels.builder import argument, block, i32, init, length, loop, prim_func, store, workspace
from embbert_tvm.kernels.dsp_codes import FourRows, four_rows, row_product
from embbert_tvm.kernels.isa import REFERENCE, Isa
from embbert_tvm.kernels.layouts import DSP_CODES
from embbert_tvm.kernels.low_bits import COMPRESSED, UNCOMPRESSED, Codes, WeightFormat, constants, rows_unpack, stored

# Fraction bits of a residual input's factor: one step of the residual in steps of the accumulator.
RESIDUAL_BITS = 8
_HALF = 1 << (RESIDUAL_BITS - 1)


@dataclass(frozen=True)
class ProductInput:
    """width: its k. rows: how many it has, None for L. indexed: read at ids[i] instead of i.
    row: read at this row only, for a product of one row. interleaved: it is row-interleaved (layouts.py), row is given;
    columns: that it has then with padding, if more. weight_format: of a constant table that is stored as codes
    (low_bits.py). dtype: of its elements; int16 of a residual, or of the one source of a product of one row. taps,
    after, dilation: of the window through which it is read."""

    width: int
    rows: int | None = None
    indexed: bool = False
    row: int | None = None
    interleaved: bool = False
    weight_format: WeightFormat | None = None
    columns: int | None = None
    dtype: str = "int8"
    taps: int = 1
    after: int = 0
    dilation: int = 1

    @property
    def met(self) -> int:
        """How many of a row's weights meet it."""
        return self.width * self.taps


@dataclass(frozen=True)
class Product:
    """The shape of a product: its sources, output width n, the rows of each small int32 table, its epilogue.

    one_row: one row of output instead of L. residuals: as sources, of width n. There may be no source where there are
    residuals. weight_format: of the weight where it is stored as codes. packing: DSP_CODES where those lie for that
    micro-kernel (layouts.py). skipped: of L rows, the first so many are not
    made, where a window would reach beyond the text; the last is made of any text.
    """

    sources: tuple[ProductInput, ...]
    n: int
    epilogue: object
    small_tables: tuple[int, ...] = ()
    one_row: bool = False
    residuals: tuple[ProductInput, ...] = ()
    weight_format: WeightFormat | None = None
    packing: str | None = None
    skipped: int = 0

    def rows_made(self, rows):
        """How many rows there are of a text of so many."""
        return tirx.max(rows - self.skipped, 1) if self.skipped else rows

    @property
    def compressed(self) -> bool:
        """Whether its vectors are stored in fewer bits than 32."""
        return self.weight_format is not None or any(s.weight_format is not None for s in self.sources)

    @property
    def k(self) -> int:
        return sum(s.met for s in self.sources)

    @property
    def row_dtype(self) -> str:
        """The type of the row that weights multiply. One of int16 is multiplied in plain C: micro-kernels take int8."""
        return "int16" if any(s.dtype == "int16" for s in self.sources) else "int8"

    @property
    def name(self) -> str:
        widths = "_".join(
            f"{_window(s)}{s.width}{s.weight_format.label if s.weight_format else ''}" for s in self.sources
        )
        layout = "interleaved_" if any(s.interleaved for s in self.sources) else ""
        added = "".join(f"_plus_{_residual_name(a)}" for a in self.residuals)
        shape = f"{widths}x{self.n}" if widths else f"{self.n}"
        codes = "" if self.weight_format is None else f"_{self.weight_format.label}"
        rows = "row_" if self.one_row else ""
        rows += f"without{self.skipped}_" if self.skipped else ""
        return f"product_{layout}{rows}{self.epilogue.name}_{shape}{added}{codes}"


def _window(source: ProductInput) -> str:
    if source.taps == 1 and source.after == 0:
        return "wide" if source.dtype == "int16" else ""
    reach = "" if source.dilation == 1 else f"every{source.dilation}"
    return f"{source.taps}taps{reach}after{source.after}of"


def _residual_name(residual: ProductInput) -> str:
    kind = "table" if residual.indexed else "row" if residual.row is not None else "rows"
    wide = "wide_" if residual.dtype == "int16" else ""
    return f"{wide}{kind}{residual.rows or ''}{residual.weight_format.label if residual.weight_format else ''}"


def product(spec: Product, isa: Isa = REFERENCE) -> tirx.PrimFunc:
    """Arguments: each source (of its dtype) and, where indexed, its ids (int32, (1, L)); weight int8
    (n, k); bias int32 (n,); each small table (int32, (rows, n)) and its ids; each residual as a source, and its factor
    int32 (n,); the epilogue's own; the output (L, what is left of it, or 1, n). Without sources there is no weight. A
    table or weight of a `weight_format` is its codes and, where it has any, its multipliers; bias and small tables are
    int8 then, the epilogue's vectors int16.

    Sources and residuals are read as ROW with L rows, or as WINDOW(dilation * (taps - 1) + 1) of which `after`
    rows lie ahead; as TABLE where they are constants.
    """
    bias_dtype, scale_dtype = COMPRESSED if spec.compressed else UNCOMPRESSED

    def body() -> None:
        rows = length()
        sources = [_declare(f"x{s}", source, rows) for s, source in enumerate(spec.sources)]
        weight = _declare_weight(spec) if spec.sources else None
        bias = constants("bias", (spec.n,), bias_dtype)
        small_tables = [
            (constants(f"table{t}", (size, spec.n), bias_dtype), argument(f"table{t}_ids", (1, rows), "int32"))
            for t, size in enumerate(spec.small_tables)
        ]
        residuals = [
            (_declare(f"residual{a}", residual, rows), argument(f"residual{a}_factor", (spec.n,), "int32"))
            for a, residual in enumerate(spec.residuals)
        ]
        params = spec.epilogue.arguments(spec.n, scale_dtype)
        out_rows = 1 if spec.one_row else spec.rows_made(rows)
        out = argument("out", (out_rows, spec.n), spec.epilogue.dtype)
        with loop("i", out_rows) as i, block("row", vi=("S", out_rows, i)) as vi:
            row = workspace("row", (spec.k,), spec.row_dtype) if spec.sources else None
            acc = workspace("acc", (spec.n,), "int32")
            _pack(sources, row, vi + (rows - out_rows if spec.skipped else 0), rows)

            def start(j):
                looked_up = sum((table[ids[0, vi], j] for table, ids in small_tables), bias[j])
                if not residuals:
                    return looked_up
                added = sum((i32(_element(a, vi, j)) * factor[j] for a, factor in residuals), i32(_HALF))
                return looked_up + (added >> i32(RESIDUAL_BITS))

            if not spec.sources:
                with loop("j", spec.n) as j, block("start", vj=("S", spec.n, j)) as vj:
                    store(acc, start(vj), vj)
            elif _calls(spec, isa):
                with T.sblock("product"):
                    with loop("j", spec.n) as j:
                        store(acc, start(j), j)
                    _row_product(isa, acc, row, weight)
            else:
                with loop("j", spec.n) as j, loop("k", spec.k) as k:
                    with block("product", vj=("S", spec.n, j), vk=("R", spec.k, k)) as (vj, vk):
                        with init():
                            store(acc, start(vj), vj)
                        value = weight.element(vj, vk) if spec.weight_format else i32(weight[vj, vk])
                        store(acc, acc[vj] + i32(row[vk]) * value, vj)
            spec.epilogue.row(acc, params, out, vi, spec.n)

    by_intrinsics = _calls(spec, isa)
    return prim_func(f"{spec.name}_{isa.name}" if by_intrinsics else spec.name, body, compact=not by_intrinsics)


def _declare_weight(spec: Product):
    if spec.packing == DSP_CODES:
        return four_rows("weight", spec.n, spec.k, spec.weight_format)
    return stored("weight", (spec.n, spec.k), spec.weight_format)


def _declare(name: str, source: ProductInput, rows) -> tuple:
    """(the source, its argument, that of its ids or None)."""
    shape = (source.rows or rows, source.width)
    if source.interleaved:
        shape = (length("M"), source.columns or source.width, 2)
    data = argument(name, shape, source.dtype) if source.dtype != "int8" else stored(name, shape, source.weight_format)
    ids = argument(f"{name}_ids", (1, rows), "int32") if source.indexed else None
    return source, data, ids


def _calls(spec: Product, isa: Isa) -> bool:
    """Whether micro-kernels work on its rows: multiply them, or unpack their weights."""
    if spec.row_dtype == "int16":
        return False
    if spec.weight_format is None:
        return isa.rows_intrinsic
    return isa.intrinsic and (spec.packing == DSP_CODES or rows_unpack(spec.weight_format, spec.k))


def _row_product(isa: Isa, acc, row, weight) -> None:
    """acc[j] += row . weight[j], of codes a row at a time where nothing multiplies by them."""
    if isinstance(weight, FourRows):
        row_product(acc, row, weight)
        return
    if not isinstance(weight, Codes):
        isa.row_product(acc, row, weight)
        return
    if isa.row_codes(acc, row, weight):
        return
    tile = workspace("tile", (weight.k,), "int8")
    with loop("j", weight.rows) as j:
        weight.unpack_row(tile, j)
        isa.row_dot(acc, j, row, tile)


def _pack(sources: list[tuple], row, i, rows) -> None:
    offset = 0
    for s, read in enumerate(sources):
        source, width = read[0], read[0].width
        if source.taps > 1 or source.after:
            _pack_window(f"pack{s}", read, row, offset, i, rows)
            offset += source.met
            continue
        with loop("k", width) as k, block(f"pack{s}", vk=("S", width, k)) as vk:
            store(row, _element(read, i, vk), vk + offset)
        offset += width


def _pack_window(name: str, read: tuple, row, offset: int, i, rows) -> None:
    source = read[0]
    width, reach = source.width, source.dilation * (source.taps - 1) - source.after
    with loop("t", source.taps) as t, loop("k", width) as k:
        with block(name, vt=("S", source.taps, t), vk=("S", width, k)) as (vt, vk):
            at = i + source.dilation * vt - reach
            sample = _element(read, tirx.max(tirx.min(at, rows - 1), 0), vk)
            inside = tirx.all(at >= 0, at < rows)
            store(row, tirx.if_then_else(inside, sample, tirx.const(0, "int8")), vt * width + vk + offset)


def _element(read: tuple, i, k):
    """Element k of the row that a source reads for row i."""
    source, data, ids = read
    at = ids[0, i] if source.indexed else i if source.row is None else source.row
    if source.weight_format is not None:
        return tirx.Cast("int8", data.element(at, k))
    return data[at // 2, k, at % 2] if source.interleaved else data[at, k]
