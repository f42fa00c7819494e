"""Fuse quantized operators into row-block kernels.

A group is a set of operators joined by ROW edges whose ALL and WINDOW inputs are complete before it starts; its kernel
is one loop over blocks of rows (kernels/row_block). Where an operator cannot be in a group it stays as it is, and rows
are brought to plain layout for it.

row_block_graph.py reads the module as nodes, row_block_groups.py forms groups, row_block_stages.py and
row_block_half.py make stages of operators, row_block_call.py puts a kernel's call together.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tvm import IRModule, relax
from tvm.ir import Call, GenericConst, Var

from embbert_tvm.graph import pack
from embbert_tvm.graph.dataflow import Dataflow, Expr, shape, substitute
from embbert_tvm.graph.quantize.quantizer import KERNEL, KernelSelection, Quantized
from embbert_tvm.graph.row_block_call import KernelCall, Stored
from embbert_tvm.graph.row_block_graph import Access, Node, Operand, is_share, linear_map, nodes_of
from embbert_tvm.graph.row_block_groups import Group, form_groups, is_among
from embbert_tvm.graph.row_block_stages import attend_row, convert, unpack, write_group
from embbert_tvm.graph.tvm_workarounds import abandon_function
from embbert_tvm.kernels import layouts
from embbert_tvm.kernels.attention import Attention, attention
from embbert_tvm.kernels.depthwise_conv import DepthwiseConv, depthwise_conv
from embbert_tvm.kernels.half import HalfConv
from embbert_tvm.kernels.integer_recurrence import IntegerRecurrence, integer_recurrence
from embbert_tvm.kernels.isa import Isa
from embbert_tvm.kernels.product import Product, ProductInput, product
from embbert_tvm.kernels.row_block import half
from embbert_tvm.kernels.row_block.filter import filter_along_text
from embbert_tvm.kernels.row_block.scratch import UnsharedError
from embbert_tvm.kernels.specs import with_spec
from embbert_tvm.reasons import ROW_BY_ROW


class _UnfusableError(Exception):
    """Operators that cannot be in a group, and why."""

    def __init__(self, nodes: list[Node], reason: str) -> None:
        self.names, self.reason = [v.name for n in nodes for v in n.values], reason


class _Writer:
    """Writes the module anew: groups as row-block kernels, filters along the text, all else as it was."""

    def __init__(self, quantized: Quantized, isa: Isa, unfusable: dict[str, str]) -> None:
        self.quantized, self.isa, self.unfusable = quantized, isa, unfusable
        self.graph = Dataflow(quantized.mod)
        self.nodes = nodes_of(self.graph, quantized.specs, unfusable)
        self.groups = form_groups(self.nodes, self.graph.output, self.along_text, unfusable)
        self.readers: dict[Var, list[Node]] = {}
        for node in self.nodes:
            for var, _ in node.reads:
                self.readers.setdefault(var, []).append(node)
        self.grouped = {id(n) for g in self.groups for n in g.nodes}
        kernels = {g: f for g, f in quantized.mod.functions.items() if g.name_hint != "main"}
        self.builder = relax.BlockBuilder(IRModule(kernels))
        (self.ids,) = self.graph.function.params
        self.length = shape(self.ids)[1]
        self.names = dict(quantized.constants)
        self.constants = pack.Constants(quantized.blocks, self.names)
        self.choices: list[KernelSelection] = []
        self.kept = {c.name: c for c in quantized.choices}
        self.plain: dict[Var, Expr] = {}  # values as plain rows, and all that is no int8 rows
        self.stored: dict[Var, Stored] = {}  # values in row-interleaved tensors
        self.unfused: list[str] = list(quantized.unfused)
        self.known_wants: dict[Var, tuple[bool, bool]] = {}
        self.emitted: set[int] = set()

    # What each value is read as.

    def wants(self, var: Var) -> tuple[bool, bool]:
        """Whether a value is read interleaved, and whether as plain rows."""
        if var not in self.known_wants:
            readers = self.readers.get(var, [])
            beside = [self.in_blocks(node) or self.reads_interleaved(node, var) for node in readers]
            is_output = isinstance(self.graph.output, Var) and self.graph.output.same_as(var)
            interleaved, plain = any(beside), is_output or not all(beside)
            # Of one row nothing lies side by side.
            self.known_wants[var] = (False, interleaved or plain) if shape(var)[0] == 1 else (interleaved, plain)
        return self.known_wants[var]

    def in_blocks(self, node: Node) -> bool:
        return id(node) in self.grouped or self.along_text(node)

    def reads_interleaved(self, node: Node, var: Var) -> bool:
        """Whether a kernel of one row reads a row-interleaved tensor."""
        spec = self.spec(node)
        if isinstance(spec, Attention):
            return spec.one_row and not self.args(node)[0].same_as(var)
        if isinstance(spec, Product):
            found = linear_map(node.values[0], spec, self.args(node))
            here = [o for o in (*found.sources, *found.residuals) if o.tensor is not None and o.tensor.same_as(var)]
            return (
                spec.one_row
                and bool(here)
                and all(o.source.row is not None for o in here)
                and str(var.ty.dtype) == "int8"
            )
        return isinstance(spec, DepthwiseConv) and spec.row is not None

    def along_text(self, node: Node) -> bool:
        """Whether a node is a convolution whose kernel runs along the text: where its rows are all there, and its
        output, as wide as they are, can lie where that of the next group will. All in half precision are such."""
        if node.half is not None:
            return isinstance(node.half.spec, HalfConv) and not node.one_row
        if node.filter is None:
            return False
        spec, most = node.filter.spec, self.isa.most_taps
        fits = most is None or spec.taps <= most
        fits = fits and spec.after == 0 and spec.dilation == 1
        return not node.streams and spec.expansion == 1 and spec.taps % 2 == 0 and fits

    def spec(self, node: Node) -> object:
        return self.quantized.specs.get(node.values[0].name)

    def args(self, node: Node) -> list[Expr]:
        return list(node.expr.args[1].fields)

    def rows_like(self, var: Var) -> Expr:
        """How many rows there are where a value has them all: the text's, or what a pooling has left of them."""
        rows = shape(var)[0]
        return rows if is_share(rows, self.length) else self.length

    def is_last(self, variables: list[Var], nodes: set[int]) -> bool:
        """Whether these nodes are the last to read the variables, and read them row by row."""
        if isinstance(self.graph.output, Var) and is_among(self.graph.output, variables):
            return False
        for node in self.nodes:
            for var, access in node.reads:
                if not is_among(var, variables):
                    continue
                if id(node) in nodes and access is not Access.ROW:
                    return False
                if id(node) not in nodes and id(node) not in self.emitted:
                    return False
        return True

    # Emitting calls.

    def call(self, func, name: str, args: list, outs: list, reason: str, inplace: int | None = None) -> list[Var]:
        """Emit a call of a kernel. outs: the types of what it makes, the first of which lies in the place of argument
        `inplace` where that is given."""
        target = self.builder.add_func(func, func.attrs[KERNEL])
        tensors = [relax.const(a) if isinstance(a, np.ndarray) else a for a in args]
        types = outs if len(outs) > 1 else outs[0]
        if inplace is None:
            call = relax.call_tir(target, tensors, types)
        else:
            call = relax.op.call_tir_inplace(target, tensors, [inplace, *[-1] * (len(outs) - 1)], types)
        made = self.builder.emit(call, name_hint=name)
        precision = "float16" if self.isa.operand_dtype == "float16" else "int8"
        self.choices.append(KernelSelection(made.name, str(func.attrs[KERNEL]), precision, reason))
        return [made]

    def emit_part(self, made: Var, index: int, name: str) -> Var:
        return self.builder.emit(relax.TupleGetItem(made, index), name_hint=name)

    def interleaved(self, var: Var) -> Stored:
        """A value as a row-interleaved tensor; converted where it is plain rows."""
        if var not in self.stored:
            convert(KernelCall(self, like=var), var)
        return self.stored[var]

    def plain_rows(self, var: Var) -> Expr:
        return self.plain.get(var, var)

    # The module.

    def run(self) -> Quantized:
        starts = {id(min(g.roots, key=self.nodes.index)): g for g in self.groups}
        try:
            return self._write(starts)
        except BaseException:
            abandon_function(self.builder)
            raise

    def _write(self, starts: dict[int, Group]) -> Quantized:
        with self.builder.function("main", [self.ids], dict(self.graph.function.attrs)):
            with self.builder.dataflow():
                for node in self.nodes:
                    if id(node) in starts:
                        group = starts[id(node)]
                        try:
                            write_group(KernelCall(self, group, group.one_row))
                        except (pack.UnpackableError, UnsharedError) as error:
                            raise _UnfusableError(group.nodes, str(error)) from None
                        self.emitted |= {id(n) for n in group.nodes}
                    elif id(node) in self.grouped:
                        continue
                    elif self.along_text(node):
                        self.filter(node)
                    else:
                        self.keep(node)
                    self.emitted.add(id(node))
                out = substitute(self.graph.output, self.plain)
                out = self.builder.emit_output(out, name_hint=self.graph.output.name)
            self.builder.emit_func_output(out)
        mod = relax.transform.DeadCodeElimination()(self.builder.finalize())
        return replace(
            self.quantized,
            mod=mod,
            constants=self.names,
            choices=tuple(self.choices),
            specs={},
            unfused=tuple(self.unfused),
        )

    def filter(self, node: Node) -> None:
        if node.half is not None:
            self.half_filter(node)
            return
        found, isa = node.filter, self.isa
        stored = self.interleaved(found.x)
        channels, wide = found.spec.channels, isa.padded(found.spec.channels)
        weight, weight_format = pack.filters(self.constants, found.weight, wide, self.isa.filters_by_channel)
        parts = [(channels, wide)]
        dtypes = layouts_of(weight_format)
        bias = pack.vector(self.constants, found.bias, parts, dtypes[0])
        multiplier = pack.vector(self.constants, found.epilogue[0], parts, dtypes[1])
        func = filter_along_text(found.spec.taps, wide, isa, weight_format, len(found.epilogue) > 1)
        func = with_spec(func, replace(found.spec, channels=wide, interleaved=True, weight_format=weight_format))
        args = [stored.expr, *weight, bias, multiplier, *found.epilogue[1:]]
        out = relax.TensorType([layouts.pairs_of(self.rows_like(found.x)), wide, layouts.INTERLEAVE], "int8")
        (made,) = self.call(func, node.values[0].name, args, [out], "filters along the text")
        self.stored[node.values[0]] = Stored(made, node.parts)
        self.finish(node)

    def half_filter(self, node: Node) -> None:
        spec, (x, *constants) = node.half.spec, node.half.args
        stored, isa = self.interleaved(x), self.isa
        dims = [isa.groups_of(self.rows_like(x)), isa.padded(spec.channels), isa.interleave]
        func = with_spec(half.filter_along_text(spec, isa), replace(spec, one_row=False))
        args = [stored.expr, *constants]
        outs = [relax.TensorType(dims, "float16")]
        (made,) = self.call(func, node.values[0].name, args, outs, "filters along the text")
        self.stored[node.values[0]] = Stored(made, node.parts)
        self.finish(node)

    def finish(self, node: Node) -> None:
        """Plain rows beside, for what reads them."""
        if self.wants(node.values[0])[1]:
            unpack(KernelCall(self, like=node.values[0]), node.values[0])

    def keep(self, node: Node) -> None:
        """A node as it was, or its kernel of one row on what is stored."""
        var = node.values[0]
        spec = self.spec(node)
        if isinstance(spec, (Product, Attention, DepthwiseConv, IntegerRecurrence)):
            self.plain[var] = self.one_row(node, spec)
            return
        new = substitute(node.expr, {v: self.plain_rows(v) for v, _ in node.reads})
        if not isinstance(new, Call) or isinstance(new, GenericConst):
            self.plain[var] = new if isinstance(new, (Var, GenericConst)) else self.builder.emit(new, var.name)
            return
        if var.name in self.kept:
            self.choices.append(self.kept[var.name])
        self.plain[var] = self.builder.emit(new, name_hint=var.name)

    def one_row(self, node: Node, spec: object) -> Var:
        """An operator whose kernel works a row at a time."""
        var, args = node.values[0], self.args(node)
        reads = [a for a in args if isinstance(a, Var) and self.reads_interleaved(node, a) and a in self.stored]
        columns = {a: int(self.stored[a].expr.ty.shape.values[1]) for a in reads}
        args = [
            self.stored[a].expr if isinstance(a, Var) and is_among(a, reads) else self.plain_rows(a)
            if isinstance(a, Var) else a for a in args
        ]  # fmt: skip
        reason = self.reason(node, spec)
        length = None
        if isinstance(spec, Product):
            stored, made = pack.row_product(self.constants, spec, args, self.isa)
            if reads:
                found = linear_map(var, spec, self.args(node))

                def placed(source: ProductInput, operand: Operand) -> ProductInput:
                    if operand.tensor is None or not is_among(operand.tensor, reads):
                        return source
                    return replace(source, interleaved=True, columns=columns[operand.tensor])

                sources = tuple(map(placed, stored.sources, found.sources))
                residuals = tuple(map(placed, stored.residuals, found.residuals))
                stored = replace(stored, sources=sources, residuals=residuals)
            func = product(stored, self.isa)
        elif isinstance(spec, Attention) and reads and self.isa.attends_in_blocks:
            return attend_row(KernelCall(self, one_row=True, like=self.args(node)[1]), node, spec, args)
        elif isinstance(spec, Attention):
            made, stored = args, spec
            if reads:
                stored = replace(spec, interleaved=True, columns=columns[reads[0]])
                length = self.rows_like(self.args(node)[1])
            func = attention(stored)
        elif isinstance(spec, IntegerRecurrence):
            made, stored, func = args, spec, integer_recurrence(spec, self.isa)
        else:
            stored, made = pack.row_filter(self.constants, spec, args)
            if reads:
                stored = replace(stored, interleaved=True, columns=columns[reads[0]])
            func = depthwise_conv(stored)
        target = self.builder.add_func(with_spec(func, stored), func.attrs[KERNEL])
        tensors = [relax.const(a) if isinstance(a, np.ndarray) else a for a in made]
        call = relax.call_tir(target, tensors if length is None else [length, *tensors], var.ty)
        out = self.builder.emit(call, name_hint=var.name)
        old = self.kept.get(var.name)
        precision = old.precision if old is not None else "int8"
        self.choices.append(KernelSelection(out.name, str(func.attrs[KERNEL]), precision, reason))
        return out

    def reason(self, node: Node, spec: object) -> str:
        one_row = getattr(spec, "one_row", False) or getattr(spec, "row", None) is not None
        if one_row:
            return "the row that the head reads"
        name = node.values[0].name
        self.unfused.append(name)
        why = self.unfusable.get(name)
        if isinstance(spec, IntegerRecurrence) and spec.backward:
            why = why or "it begins with the last"
        return f"{ROW_BY_ROW}: {why or f'no stage for {type(spec).__name__} with these operands'}"


def layouts_of(weight_format) -> tuple[str | None, str | None]:
    """The types of a product's biases and of its multipliers beside weights of a format; None for int32."""
    from embbert_tvm.kernels.low_bits import COMPRESSED

    return (None, None) if weight_format is None else COMPRESSED


def fuse_row_blocks(quantized: Quantized, isa: Isa) -> Quantized:
    """The module on row-block kernels, and the account of its operators."""
    unfusable: dict[str, str] = {}
    while True:
        writer = _Writer(quantized, isa, unfusable)
        try:
            return writer.run()
        except _UnfusableError as error:
            unfusable |= dict.fromkeys(error.names, error.reason)


def is_fused(quantized: Quantized) -> bool:
    """Whether block kernels serve every operator of int8 rows."""
    return not quantized.unfused
