"""A quantized module as nodes that a row-block kernel can take: what each reads, how, and what it makes.

ROW: row i of the output needs row i of the input. ALL: it needs every row. WINDOW: it needs rows before it.
"""

from __future__ import annotations

import enum
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from tvm import sym, tirx
from tvm.ir import Var

from embbert_tvm.graph.dataflow import Dataflow, Expr, constant, op_name, shape, variables
from embbert_tvm.graph.shares import share_of
from embbert_tvm.kernels.attention import Attention
from embbert_tvm.kernels.convert import Rescale
from embbert_tvm.kernels.depthwise_conv import DepthwiseConv
from embbert_tvm.kernels.epilogues import Activate, Dequantize, LayerNorm, Requantize, RequantizeWide, RmsNorm
from embbert_tvm.kernels.gate import Gate
from embbert_tvm.kernels.half import HalfAttention, HalfConv, HalfProduct
from embbert_tvm.kernels.integer_recurrence import IntegerRecurrence
from embbert_tvm.kernels.integer_scan import IntegerScan
from embbert_tvm.kernels.pool import Pool
from embbert_tvm.kernels.pool_rows import PoolRows
from embbert_tvm.kernels.product import Product, ProductInput


class Access(enum.Enum):
    ROW = "row"  # row by row and in order, so that what came before may be kept
    ALL = "all"
    WINDOW = "window"


@dataclass(frozen=True)
class Operand:
    """A source or residual of a product: a tensor, or a constant table with the ids that it is read at."""

    source: ProductInput
    data: Expr
    ids: Expr | None = None
    factor: np.ndarray | None = None

    @property
    def tensor(self) -> Var | None:
        return self.data if isinstance(self.data, Var) else None

    @property
    def windowed(self) -> bool:
        """Whether a row reads other rows of it than its own."""
        return self.source.taps > 1 or self.source.after > 0


@dataclass(frozen=True)
class LinearMap:
    """The arguments of a product's kernel by name."""

    var: Var
    spec: Product
    sources: tuple[Operand, ...]
    weight: np.ndarray | None
    bias: np.ndarray
    small_tables: tuple[tuple[np.ndarray, Expr], ...]
    residuals: tuple[Operand, ...]
    epilogue: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Head:
    """One attention: its kernel's arguments. by_distance: what its scores have added, by role."""

    var: Var
    spec: Attention
    query: Var
    key: Var
    value: Var
    exp: np.ndarray
    score_multiplier: np.ndarray
    ratio: np.ndarray
    by_distance: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class Filter:
    """A depthwise convolution along the text."""

    var: Var
    spec: DepthwiseConv
    x: Var
    weight: np.ndarray
    bias: np.ndarray
    epilogue: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Pooling:
    """One row of all rows, or of each few neighbours."""

    var: Var
    spec: Pool | PoolRows
    x: Var
    constants: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Rescaling:
    """int16 rows to int8 rows."""

    var: Var
    x: Var
    multiplier: np.ndarray


@dataclass(frozen=True)
class RowByRow:
    """An operator of a few tensors, row by row and in order: a gate, a scan or a recurrence, with its constants."""

    var: Var
    spec: Gate | IntegerScan | IntegerRecurrence
    inputs: tuple[Var, ...]
    constants: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class HalfCall:
    """An operator in half precision: its kernel's arguments, in order."""

    spec: HalfProduct | HalfAttention | HalfConv
    args: tuple[Expr, ...]


@dataclass(eq=False)
class Node:
    """What makes one or several values side by side.

    maps, heads: the products or attentions whose results lie side by side; filter: a convolution; pool, rescale; half:
    an operator in half precision. Where all are empty, the node stays as it is. values: the variables that it makes, in
    order. reads: variables with how they are read.
    """

    values: tuple[Var, ...]
    expr: Expr
    maps: tuple[LinearMap, ...] = ()
    heads: tuple[Head, ...] = ()
    filter: Filter | None = None
    pool: Pooling | None = None
    rescale: Rescaling | None = None
    row_by_row: RowByRow | None = None
    half: HalfCall | None = None
    streams: bool = False  # a filter that keeps the rows it needs from block to block
    reads: list[tuple[Var, Access]] = field(default_factory=list)

    @property
    def opaque(self) -> bool:
        known = (self.maps, self.heads, self.filter, self.pool, self.rescale, self.row_by_row, self.half)
        return not any(known)

    @property
    def one_row(self) -> bool:
        """Whether it is of one row, in half precision: stages of integers are of all rows."""
        return self.half is not None and self.half.spec.one_row

    @property
    def parts(self) -> tuple[int, ...]:
        """Columns of each value."""
        return tuple(int(shape(v)[-1]) for v in self.values)

    @property
    def dtype(self) -> str:
        return str(self.values[0].ty.dtype)

    @property
    def leaves_few(self) -> bool:
        """Whether it makes a share of the rows that it reads."""
        return self.pool is not None and isinstance(self.pool.spec, PoolRows)

    @property
    def is_float(self) -> bool:
        return bool(self.maps) and isinstance(self.maps[0].spec.epilogue, Dequantize)


def linear_map(var: Var, spec: Product, args: Sequence[Expr]) -> LinearMap:
    """A product's arguments in the order of kernels/product.py."""
    rest = iter(args)

    def read(source: ProductInput) -> Operand:
        data = next(rest)
        return Operand(source, data, next(rest) if source.indexed else None)

    sources = tuple(read(s) for s in spec.sources)
    weight = constant(next(rest)) if sources else None
    bias = constant(next(rest))
    small_tables = tuple((constant(next(rest)), next(rest)) for _ in spec.small_tables)
    residuals = tuple(replace(read(a), factor=constant(next(rest))) for a in spec.residuals)
    return LinearMap(var, spec, sources, weight, bias, small_tables, residuals, tuple(constant(a) for a in rest))


def nodes_of(graph: Dataflow, specs: dict[str, object], apart: Container[str] = ()) -> list[Node]:
    """The module's bindings in order; attentions of several heads, and what feeds them, joined, but for those of the
    values `apart`."""
    length = shape(graph.function.params[0])[1]
    made = [_node(var, value, specs.get(var.name), length) for var, value in graph.bindings]
    _stream(made, apart)
    return _join_heads(made, apart)


def _stream(nodes: list[Node], apart: Container[str]) -> None:
    """Filters of rows that nothing reads as a whole keep the rows they need as these are made: a causal chain."""
    whole = {v for n in nodes for v, access in n.reads if access is Access.ALL or n.leaves_few}
    made = {v: n for n in nodes for v in n.values}
    for node in nodes:
        if node.filter is None or node.values[0].name in apart or node.filter.x in whole or node.filter.spec.after:
            continue
        source = made.get(node.filter.x)
        if source is not None and not source.opaque and node.filter.x.name not in apart:
            node.streams = True
            node.reads = [(node.filter.x, Access.ROW)]


def _node(var: Var, value: Expr, spec: object, length: Expr | int) -> Node:
    if spec is not None and op_name(value) == "call_tir" and _rows_fit(var, value, spec, length):
        args = list(value.args[1].fields)
        if isinstance(spec, Product) and _takes(spec):
            found = linear_map(var, spec, args)
            operands = [o for o in (*found.sources, *found.residuals) if o.tensor is not None]
            reads = [(o.tensor, Access.WINDOW if o.windowed else Access.ROW) for o in operands]
            return Node((var,), value, maps=(found,), reads=reads)
        if isinstance(spec, Attention) and not spec.one_row:
            head = Head(var, spec, *args[:3], *map(constant, args[3:6]), tuple(map(constant, args[6:])))
            reads = [(head.query, Access.ROW), (head.key, Access.ALL), (head.value, Access.ALL)]
            return Node((var,), value, heads=(head,), reads=reads)
        if isinstance(spec, DepthwiseConv) and _filters(spec):
            x, weight, bias, *rest = args
            found = Filter(var, spec, x, constant(weight), constant(bias), tuple(constant(a) for a in rest))
            return Node((var,), value, filter=found, reads=[(x, Access.WINDOW)])
        if isinstance(spec, Pool) or (isinstance(spec, PoolRows) and spec.in_blocks):
            x, *constants = args
            found = Pooling(var, spec, x, tuple(constant(a) for a in constants))
            return Node((var,), value, pool=found, reads=[(x, Access.ROW)])
        if isinstance(spec, Rescale) and spec.row is None:
            return Node(
                (var,), value, rescale=Rescaling(var, args[0], constant(args[1])), reads=[(args[0], Access.ROW)]
            )
        forward = isinstance(spec, IntegerRecurrence) and not spec.backward
        if forward or isinstance(spec, IntegerScan) or (isinstance(spec, Gate) and spec.rows == (None, None)):
            count = 2 if isinstance(spec, Gate) else 1 if isinstance(spec, IntegerRecurrence) else 4
            found = RowByRow(var, spec, tuple(args[:count]), tuple(constant(a) for a in args[count:]))
            return Node((var,), value, row_by_row=found, reads=[(v, Access.ROW) for v in found.inputs])
        if isinstance(spec, (HalfProduct, HalfAttention, HalfConv)):
            return _half(var, value, spec)
    return Node((var,), value, reads=[(v, Access.ALL) for v in variables(value)])


def _half(var: Var, value: Expr, spec: HalfProduct | HalfAttention | HalfConv) -> Node:
    """An operator in half precision. One of a single row reads the first of a tensor when that is all there."""
    args = list(value.args[1].fields)
    reads = []
    for index, arg in enumerate(args):
        if not isinstance(arg, Var) or str(arg.ty.dtype) != "float16":
            continue
        access = Access.ROW
        if isinstance(spec, HalfConv) and not spec.one_row:
            access = Access.WINDOW
        elif (isinstance(spec, HalfAttention) and index > 0) or (spec.one_row and shape(arg)[0] != 1):
            access = Access.ALL
        reads.append((arg, access))
    return Node((var,), value, half=HalfCall(spec, tuple(args)), reads=reads)


_EPILOGUES = (Requantize, RequantizeWide, Activate, Dequantize, RmsNorm, LayerNorm)


_MANY = (1 << 16, 1 << 17)  # more rows than any convolution leaves out


def _rows_fit(var: Var, value: Expr, spec: object, length: Expr | int) -> bool:
    """Whether what a call makes has as many rows as the text, or one, and what it reads. A convolution may leave out
    some rows of a text that it reads whole; what works row by row reads and makes as many as that."""
    made, read = shape(var)[0], [shape(v)[0] for v in variables(value)]
    if isinstance(length, int):
        return all(dim in (1, length) for dim in (made, *read))
    if all(isinstance(dim, (int, Var)) for dim in (made, *read)):
        return True
    if isinstance(spec, PoolRows):
        return share_of(read[0], made, length) == spec.size
    if isinstance(spec, Attention) and not spec.one_row:
        query, key, value = read
        return str(query) == str(made) and str(key) == str(value) and share_of(query, key, length) == spec.share
    if len({str(dim) for dim in (made, *read) if not isinstance(dim, int)}) == 1 and is_share(made, length):
        return True
    if any(not isinstance(dim, (int, Var)) and not _leaves_some_out(dim, length) for dim in (made, *read)):
        return False
    if isinstance(spec, Product) and spec.skipped:
        return all(isinstance(dim, (int, Var)) for dim in read)
    by_rows = isinstance(spec, (Product, Pool, Rescale, Gate))
    windowed = isinstance(spec, Product) and any(s.taps > 1 or s.after for s in spec.sources)
    return by_rows and not windowed and len({str(dim) for dim in (made, *read) if not isinstance(dim, int)}) == 1


def is_share(rows: Expr | int, length: Expr) -> bool:
    """Whether these are a share of the text's rows, as a pooling with a stride leaves: what reads and makes such alone
    works as on all rows of a shorter text."""
    return not isinstance(rows, (int, Var)) and not _leaves_some_out(rows, length)


def _leaves_some_out(rows: Expr, length: Expr) -> bool:
    """Whether these are the text's rows less a number of them."""
    left_out = set()
    for many in _MANY:
        analyzer = sym.Analyzer()
        analyzer.bind(length, tirx.const(many, "int64"))
        left_out.add(many - int(analyzer.simplify(rows)))
    return len(left_out) == 1


def _filters(spec: DepthwiseConv) -> bool:
    """Whether stages compute a convolution: of all rows, with an epilogue that they know."""
    return spec.row is None and isinstance(spec.epilogue, (Activate, Requantize))


def _takes(spec: Product) -> bool:
    """Whether stages compute a product: of all rows, with an epilogue that they know."""
    operands = (*spec.sources, *spec.residuals)
    plain = all(o.row is None and (o.rows is None or o.rows > 1) for o in operands)
    plain = plain and all(o.taps == 1 and o.after == 0 for o in spec.residuals)
    # Rows are left out of what is read through windows alone.
    through = all(s.taps > 1 or s.after for s in spec.sources) and not spec.residuals and not spec.small_tables
    plain = plain and (through or not spec.skipped)
    return plain and not spec.one_row and isinstance(spec.epilogue, _EPILOGUES)


def _join_heads(nodes: list[Node], apart: Container[str]) -> list[Node]:
    """Attentions whose contexts one product reads become one node, and so do their queries, keys and values where
    nothing else reads those."""
    made = {v: n for n in nodes for v in n.values}
    users: dict[Var, list[Node]] = {}
    for node in nodes:
        for var, _ in node.reads:
            users.setdefault(var, []).append(node)
    joined: dict[Node, list[Node]] = {}
    for node in nodes:
        if len(node.maps) != 1:
            continue
        contexts = [s.tensor for s in node.maps[0].sources]
        heads = [made[v] for v in contexts if v is not None and v in made and made[v].heads]
        if len(heads) < 2 or any(users[h.values[0]] != [node] for h in heads):
            continue
        if any(h.values[0].name in apart or h.heads[0].spec != heads[0].heads[0].spec for h in heads):
            continue
        alike = [[getattr(h.heads[0], role) for h in heads] for role in ("query", "key", "value")]
        if all(_joinable(variables_, heads, made, users) for variables_ in alike):
            for group in (heads, *([made[v] for v in role] for role in alike)):
                joined[group[-1]] = group
    inside = {n for group in joined.values() for n in group}
    out: list[Node] = []
    for node in nodes:
        if node in joined:
            out.append(_merged(joined[node]))
        elif node not in inside:
            out.append(node)
    return out


def _joinable(variables_: list[Var], heads: list[Node], made: dict, users: dict) -> bool:
    """Whether these are products of the same rows, alike but for their weights, that nothing but the heads reads."""
    nodes = [made.get(v) for v in variables_]
    if any(n is None or len(n.maps) != 1 for n in nodes) or len(set(map(id, nodes))) != len(nodes):
        return False
    maps = [n.maps[0] for n in nodes]
    first = maps[0]
    alike = all(
        m.spec == first.spec
        and len(m.sources) == 1
        and m.sources[0].tensor is not None
        and m.sources[0].tensor.same_as(first.sources[0].tensor)
        and not m.residuals
        and not m.small_tables
        and isinstance(m.spec.epilogue, Requantize)
        for m in maps
    )
    return alike and all(set(map(id, users[v])) <= set(map(id, heads)) for v in variables_)


def _merged(nodes: list[Node]) -> Node:
    reads: list[tuple[Var, Access]] = []
    for node in nodes:
        for var, access in node.reads:
            if not any(var.same_as(v) and access == a for v, a in reads):
                reads.append((var, access))
    return Node(
        tuple(v for n in nodes for v in n.values),
        nodes[-1].expr,
        tuple(m for n in nodes for m in n.maps),
        tuple(h for n in nodes for h in n.heads),
        reads=reads,
    )
