"""The int8 product: rows times weights, with one of the epilogues.

    acc[i, j] = bias[j] + sum_s sum_k source_s[row_s(i), k] * weight[j, offset_s + k] + sum_t table_t[ids_t[i], j]
              + (sum_a addend_a[row_a(i), j] * factor_a[j] + 2^(ADDEND_BITS - 1)) >> ADDEND_BITS

Several sources share one row of weights (their scales are folded into it), so a sum of linear maps is one product.
A source is a tensor of L rows or one, a constant table read at row i, or a constant table read at row ids[i] (an
embedding). An addend is a source that no matrix multiplies: a residual path, or an embedding of the full width.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels import steps
from embbert_tvm.kernels.builder import argument, block, i32, init, length, loop, prim_func, store, workspace
from embbert_tvm.kernels.intrinsics import DESCRIBED, Isa

# Fraction bits of an addend's factor: one step of the addend in steps of the accumulator.
ADDEND_BITS = 8


@dataclass(frozen=True)
class Source:
    """width: its k. rows: how many it has, None for L. indexed: read at ids[i] instead of i.
    row: read at this row only, for a product of one row. pairs: it is a pairs matrix (intrinsics.py), row is given."""

    width: int
    rows: int | None = None
    indexed: bool = False
    row: int | None = None
    pairs: bool = False


@dataclass(frozen=True)
class Product:
    """The shape of a product: its sources, output width n, the rows of each int32 lookup table, its epilogue.

    single: one row of output instead of L. addends: as sources, of width n. There may be no source where there are
    addends.
    """

    sources: tuple[Source, ...]
    n: int
    epilogue: object
    lookups: tuple[int, ...] = ()
    single: bool = False
    addends: tuple[Source, ...] = ()

    @property
    def k(self) -> int:
        return sum(s.width for s in self.sources)

    @property
    def name(self) -> str:
        widths = "_".join(str(s.width) for s in self.sources)
        form = "pairs_" if any(s.pairs for s in self.sources) else ""
        added = "".join(f"_plus_{_form(a)}" for a in self.addends)
        shape = f"{widths}x{self.n}" if widths else f"{self.n}"
        return f"product_{form}{'row_' if self.single else ''}{self.epilogue.name}_{shape}{added}"


def _form(addend: Source) -> str:
    kind = "table" if addend.indexed else "row" if addend.row is not None else "rows"
    return f"{kind}{addend.rows or ''}"


def product(spec: Product, isa: Isa = DESCRIBED) -> tirx.PrimFunc:
    """Arguments: each source (int8) and, where indexed, its ids (int32, (1, L)); weight int8 (n, k); bias int32 (n,);
    each lookup table (int32, (rows, n)) and its ids; each addend as a source, and its factor int32 (n,); the epilogue's
    own; the output (L or 1, n). Without sources there is no weight."""

    def body() -> None:
        rows = length()

        def read(name: str, source: Source) -> tuple:
            shape = (length("M"), source.width, 2) if source.pairs else (source.rows or rows, source.width)
            data = argument(name, shape, "int8")
            ids = argument(f"{name}_ids", (1, rows), "int32") if source.indexed else None
            return source, data, ids

        sources = [read(f"x{s}", source) for s, source in enumerate(spec.sources)]
        weight = argument("weight", (spec.n, spec.k), "int8") if spec.sources else None
        bias = argument("bias", (spec.n,), "int32")
        lookups = [
            (argument(f"table{t}", (size, spec.n), "int32"), argument(f"table{t}_ids", (1, rows), "int32"))
            for t, size in enumerate(spec.lookups)
        ]
        addends = [
            (read(f"addend{a}", addend), argument(f"addend{a}_factor", (spec.n,), "int32"))
            for a, addend in enumerate(spec.addends)
        ]
        params = spec.epilogue.arguments(spec.n)
        out_rows = 1 if spec.single else rows
        out = argument("out", (out_rows, spec.n), spec.epilogue.dtype)
        with loop("i", out_rows) as i, block("row", vi=("S", out_rows, i)) as vi:
            row = workspace("row", (spec.k,), "int8") if spec.sources else None
            acc = workspace("acc", (spec.n,), "int32")
            _pack(sources, row, vi)

            def start(j):
                looked_up = sum((table[ids[0, vi], j] for table, ids in lookups), bias[j])
                if not addends:
                    return looked_up
                added = sum((i32(_element(a, vi, j)) * factor[j] for a, factor in addends), i32(1 << (ADDEND_BITS - 1)))
                return looked_up + (added >> i32(ADDEND_BITS))

            if not spec.sources:
                with loop("j", spec.n) as j, block("start", vj=("S", spec.n, j)) as vj:
                    store(acc, start(vj), vj)
            elif isa.whole:
                with T.sblock("product"):
                    with loop("j", spec.n) as j:
                        store(acc, start(j), j)
                    steps.row_product(isa, acc, row, weight)
            else:
                with loop("j", spec.n) as j, loop("k", spec.k) as k:
                    with block("product", vj=("S", spec.n, j), vk=("R", spec.k, k)) as (vj, vk):
                        with init():
                            store(acc, start(vj), vj)
                        store(acc, acc[vj] + i32(row[vk]) * i32(weight[vj, vk]), vj)
            spec.epilogue.row(acc, params, out, vi, spec.n)

    name = f"{spec.name}_{isa.name}" if isa.whole else spec.name
    return prim_func(name, body, compact=not isa.whole)


def _pack(sources: list[tuple], row, i) -> None:
    offset = 0
    for s, read in enumerate(sources):
        width = read[0].width
        with loop("k", width) as k, block(f"pack{s}", vk=("S", width, k)) as vk:
            store(row, _element(read, i, vk), vk + offset)
        offset += width


def _element(read: tuple, i, k):
    """Element k of the row that a source reads for row i."""
    source, data, ids = read
    at = ids[0, i] if source.indexed else i if source.row is None else source.row
    return data[at // 2, k, at % 2] if source.pairs else data[at, k]
