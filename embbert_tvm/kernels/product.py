"""The int8 product: rows times weights, with one of the epilogues.

    acc[i, j] = bias[j] + sum_s sum_k source_s[row_s(i), k] * weight[j, offset_s + k] + sum_t table_t[ids_t[i], j]

Several sources share one row of weights (their scales are folded into it), so a sum of linear maps is one product.
A source is a tensor of L rows or one, a constant table read at row i, or a constant table read at row ids[i] (an
embedding).
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from embbert_tvm.kernels import steps
from embbert_tvm.kernels.builder import argument, block, i32, init, length, loop, prim_func, store, workspace
from embbert_tvm.kernels.intrinsics import DESCRIBED, Isa


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

    single: one row of output instead of L.
    """

    sources: tuple[Source, ...]
    n: int
    epilogue: object
    lookups: tuple[int, ...] = ()
    single: bool = False

    @property
    def k(self) -> int:
        return sum(s.width for s in self.sources)

    @property
    def name(self) -> str:
        widths = "_".join(str(s.width) for s in self.sources)
        form = "pairs_" if any(s.pairs for s in self.sources) else ""
        return f"product_{form}{'row_' if self.single else ''}{self.epilogue.name}_{widths}x{self.n}"


def product(spec: Product, isa: Isa = DESCRIBED) -> tirx.PrimFunc:
    """Arguments: each source (int8) and, where indexed, its ids (int32, (1, L)); weight int8 (n, k); bias int32 (n,);
    each lookup table (int32, (rows, n)) and its ids; the epilogue's own; the output (L or 1, n)."""

    def body() -> None:
        rows = length()
        sources = []
        for s, source in enumerate(spec.sources):
            shape = (length("M"), source.width, 2) if source.pairs else (source.rows or rows, source.width)
            data = argument(f"x{s}", shape, "int8")
            ids = argument(f"x{s}_ids", (1, rows), "int32") if source.indexed else None
            sources.append((source, data, ids))
        weight = argument("weight", (spec.n, spec.k), "int8")
        bias = argument("bias", (spec.n,), "int32")
        lookups = [
            (argument(f"table{t}", (size, spec.n), "int32"), argument(f"table{t}_ids", (1, rows), "int32"))
            for t, size in enumerate(spec.lookups)
        ]
        params = spec.epilogue.arguments(spec.n)
        out_rows = 1 if spec.single else rows
        out = argument("out", (out_rows, spec.n), spec.epilogue.dtype)
        with loop("i", out_rows) as i, block("row", vi=("S", out_rows, i)) as vi:
            row = workspace("row", (spec.k,), "int8")
            acc = workspace("acc", (spec.n,), "int32")
            _pack(sources, row, vi)

            def start(j):
                return sum((table[ids[0, vi], j] for table, ids in lookups), bias[j])

            if isa.whole:
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
    for s, (source, data, ids) in enumerate(sources):
        at = ids[0, i] if source.indexed else i if source.row is None else source.row
        with loop("k", source.width) as k, block(f"pack{s}", vk=("S", source.width, k)) as vk:
            store(row, data[at // 2, vk, at % 2] if source.pairs else data[at, vk], vk + offset)
        offset += source.width
