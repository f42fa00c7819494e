"""A group of operators as the call of one row-block kernel: its spec, its packed constants, its tensors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from tvm import relax
from tvm.ir import Var

from embbert_tvm.graph import pack
from embbert_tvm.graph.dataflow import Expr, shape
from embbert_tvm.graph.row_block_graph import Access, LinearMap, Node, Operand
from embbert_tvm.kernels import layouts
from embbert_tvm.kernels.attention import Attention
from embbert_tvm.kernels.epilogues import Activate, Dequantize, Requantize
from embbert_tvm.kernels.low_bits import NARROW
from embbert_tvm.kernels.raw_words import fits_raw_words
from embbert_tvm.kernels.row_block.kernel import row_block
from embbert_tvm.kernels.row_block.scratch import width
from embbert_tvm.kernels.row_block.spec import (
    Attend,
    Gate,
    Gather,
    Linear,
    Load,
    Narrow,
    Parts,
    Pool,
    RowBlock,
    Save,
    Scan,
    Stage,
    Table,
    Tensor,
    Value,
    Window,
)

if TYPE_CHECKING:
    from embbert_tvm.graph.fuse_row_blocks import Group, _Writer


@dataclass(frozen=True)
class Stored:
    """A row-interleaved tensor of one or several values side by side. parts: their columns."""

    expr: Var
    parts: Parts


@dataclass
class _Output:
    """A tensor that a kernel makes: which values, and how they lie."""

    node: Node
    tensor: Tensor
    type: relax.TensorType


@dataclass
class GroupWriter:
    writer: _Writer
    group: Group
    values: list[Value] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    constants: list = field(default_factory=list)
    inputs: list[tuple[Tensor, Expr]] = field(default_factory=list)
    outputs: list[_Output] = field(default_factory=list)
    value_of: dict[Var, int] = field(default_factory=dict)  # of values in scratch
    tables_coded: bool = False
    single: bool = False

    @property
    def isa(self):
        return self.writer.isa

    def wide(self, parts: Parts) -> list[tuple[int, int]]:
        """Parts with their padding."""
        return [(p, self.isa.padded(p)) for p in parts]

    # Scratch and tensors.

    def new_value(self, parts: Parts, variables: tuple[Var, ...] = (), dtype: str = "int8") -> int:
        self.values.append(Value(parts, dtype))
        for var in variables:
            self.value_of[var] = len(self.values) - 1
        return len(self.values) - 1

    def input(self, tensor: Tensor, expr: Expr) -> int:
        """The number of an input tensor; negative numbers are outputs' until the spec is made."""
        for number, (_, known) in enumerate(self.inputs):
            if known.same_as(expr):
                return number
        self.inputs.append((tensor, expr))
        return len(self.inputs) - 1

    def output(self, node: Node, tensor: Tensor) -> int:
        length = self.writer.length
        if tensor.interleaved:
            dims = [layouts.pairs_of(length), width(tensor.parts, self.isa), layouts.INTERLEAVE]
        else:
            dims = [1 if self.single else tensor.rows or length, sum(tensor.parts)]
        self.outputs.append(_Output(node, tensor, relax.TensorType(dims, tensor.dtype)))
        return -len(self.outputs)

    def load(self, var: Var) -> int:
        """The value of a tensor's rows."""
        if var not in self.value_of:
            stored, dtype = self.writer.stored.get(var), str(var.ty.dtype)
            if stored is not None:
                parts, number = stored.parts, self.input(Tensor(stored.parts, dtype=dtype), stored.expr)
                same = [v for v, s in self.writer.stored.items() if s is stored]
            else:
                parts, same = (int(shape(var)[-1]),), [var]
                number = self.input(Tensor(parts, interleaved=False, dtype=dtype), self.writer.plain_rows(var))
            self.stages.append(Load(self.new_value(parts, tuple(same), dtype), number))
        return self.value_of[var]

    def whole(self, var: Var) -> int:
        """The tensor of keys or values, row-interleaved."""
        stored = self.writer.interleaved(var)
        return self.input(Tensor(stored.parts), stored.expr)

    # Operators.

    def write(self) -> None:
        for node in self.group.nodes:
            if node.heads:
                self.attend(node)
            elif node.filter is not None:
                self.window(node)
            elif node.pool is not None:
                self.pool(node)
            elif node.narrow is not None:
                value, number = self.results(node, stores=False)
                self.stages.append(Narrow(value, self.load(node.narrow.x)))
                self.constants.append(node.narrow.multiplier)
                self.save(value, number)
            elif node.row_by_row is not None:
                self.row_by_row(node)
            else:
                self.linear(node)
        for node in self.group.roots:
            if not node.is_float and node.pool is None and node.values[0] in self.value_of:
                for var in node.values:
                    if self.writer.wants(var)[1]:
                        self.save_plain(node, var)
        self.emit()

    def attend(self, node: Node) -> None:
        head = node.heads[0]
        query = self.load(head.query)
        keys, values = self.whole(head.key), self.whole(head.value)
        out = self.new_value(node.parts, node.values)
        self.stages.append(Attend(out, query, keys, values))
        self.constants += [head.exp]
        for role in ("score_multiplier", "ratio"):
            vectors = [getattr(h, role) for h in node.heads]
            self.constants.append(self.named(vectors[0], np.concatenate(vectors)))
        if node in self.group.roots and self.writer.wants(node.values[0])[0]:
            number = self.output(node, Tensor(node.parts, written=True))
            self.stages.append(Save(out, number))

    def named(self, old: np.ndarray, new: np.ndarray) -> np.ndarray:
        return self.writer.constants.renamed(old, new)

    def linear(self, node: Node) -> None:
        first = node.maps[0]
        sources, columns, slices = self.sources(first)
        parts = node.parts
        rows = self.wide(parts)
        residuals = [self.residual(o) for o in first.residuals]
        k = 0
        constants: list = []
        form, raw = None, False
        if sources:
            k = self.isa.dot_columns(sum(wide for _, wide in columns))
            matrices = [self.ordered(m.weight, slices) for m in node.maps]
            made, form = pack.weight(self.writer.constants, matrices, rows, columns, k)
            raw = form is None and self.isa.takes_raw(k) and fits_raw_words(made[0])
            constants += [pack.raw_words(self.writer.constants, made[0])] if raw else made
        narrow = form is not None or self.tables_coded
        small, middle = NARROW if narrow else (None, None)

        def vector(values: list[np.ndarray], dtype: str | None) -> np.ndarray:
            joined = values[0] if len(values) == 1 else self.named(values[0], np.concatenate(values, -1))
            return pack.vector(self.writer.constants, joined, rows, dtype)

        constants.append(vector([m.bias for m in node.maps], small))
        for table, ids in first.lookups:
            constants += [vector([table], small), self.writer.plain_rows(ids)]
        for (_, data), operand in zip(residuals, first.residuals, strict=True):
            constants += data
            constants.append(vector([operand.factor], None))
        epilogue = first.spec.epilogue
        for index, value in enumerate(first.epilogue):
            of_columns = len(value.shape) == 1 and value.shape[0] == first.spec.n and value.dtype == np.int32
            if not of_columns or isinstance(epilogue, Dequantize):
                constants.append(value)
                continue
            dtype = middle if index in epilogue.narrow else None
            constants.append(vector([m.epilogue[index] for m in node.maps], dtype))
        value, tensor = self.results(node)
        self.stages.append(
            Linear(
                tuple(sources), parts, epilogue, value, tensor, first.spec.lookups,
                tuple(r for r, _ in residuals), form, narrow, raw,
            )
        )  # fmt: skip
        self.constants += constants

    def save(self, value: int, number: int | None) -> None:
        """Store a value where other kernels read it."""
        if number is not None:
            self.stages.append(Save(value, number))

    def window(self, node: Node) -> None:
        """A causal filter in the loop over blocks."""
        found, spec = node.filter, node.filter.spec
        if self.writer.constants.blocks_of(found.weight) is not None:
            raise pack.UnpackableError("filters of fewer than 8 bits in a block of rows")
        if not isinstance(spec.epilogue, (Activate, Requantize)):
            raise pack.UnpackableError(f"a filter that ends in {spec.epilogue.name}")
        source = self.load(found.x) if node.streams else None
        tensor = None if node.streams else self.whole(found.x)
        taps, weight = pack.taps(self.writer.constants, found.weight, spec.expansion)
        self.constants += [weight, found.bias, *found.epilogue]
        value, number = self.results(node, stores=False)
        self.stages.append(Window(value, taps, spec.expansion, spec.epilogue, tensor, source))
        self.save(value, number)

    def row_by_row(self, node: Node) -> None:
        """A gate or a scan."""
        found = node.row_by_row
        inputs = [self.load(v) for v in found.inputs]
        value, number = self.results(node, stores=False)
        self.constants += found.constants
        self.stages.append(Gate(value, *inputs) if len(inputs) == 2 else Scan(value, *inputs, spec=found.spec))
        self.save(value, number)

    def pool(self, node: Node) -> None:
        """A pooling of all rows, as they come."""
        source = self.load(node.pool.x)
        number = self.output(node, Tensor(node.parts, interleaved=False, written=True, rows=1))
        self.constants += node.pool.constants
        self.stages.append(Pool(source, number, node.pool.spec))

    def results(self, node: Node, stores: bool = True) -> tuple[int | None, int | None]:
        """Where a result goes: a value that stages read, a tensor that other kernels read.

        stores: whether the stage writes the tensor itself; else there is a value in any case.
        """
        root = node in self.group.roots
        if node.is_float:
            tensor = Tensor(node.parts, interleaved=False, dtype="float32", written=True)
            return None, self.output(node, tensor)
        interleaved = root and any(self.writer.wants(v)[0] for v in node.values)
        plain = root and any(self.writer.wants(v)[1] for v in node.values)
        inside = any(v.same_as(x) for n in self.group.nodes for v, a in n.reads if a is Access.ROW for x in node.values)
        needed = inside or plain or not stores
        value = self.new_value(node.parts, node.values, node.dtype) if needed else None
        number = self.output(node, Tensor(node.parts, dtype=node.dtype, written=True)) if interleaved else None
        return value, number

    def sources(self, found: LinearMap) -> tuple[list[int], list[tuple[int, int]], list[slice]]:
        """A product's sources as values, their columns with padding, and where each lies in the weight."""
        sources: list[int] = []
        columns: list[tuple[int, int]] = []
        slices: list[slice] = []
        self.tables_coded = False
        first, tables = 0, []
        for operand in found.sources:
            here = slice(first, first + operand.source.width)
            first += operand.source.width
            if operand.tensor is None:
                tables.append((operand, here))
                continue
            self.gather(tables, sources, columns, slices)
            value = self.load(operand.tensor)
            if value in sources:
                # A part of what lies side by side: its place is that of its variable among them.
                continue
            sources.append(value)
            for part, offset in self.parts_of(value, found):
                columns.append((part, self.isa.padded(part)))
                slices.append(slice(offset, offset + part))
        self.gather(tables, sources, columns, slices)
        return sources, columns, slices

    def parts_of(self, value: int, found: LinearMap) -> list[tuple[int, int]]:
        """The columns of each part of a value, and where a product's weight has them."""
        offsets, first = {}, 0
        for operand in found.sources:
            if operand.tensor is not None:
                offsets[operand.tensor] = first
            first += operand.source.width
        variables = [v for v, number in self.value_of.items() if number == value]
        parts = self.values[value].parts
        if len(parts) == 1:
            known = next(v for v in variables if v in offsets)
            return [(parts[0], offsets[known])]
        if any(v not in offsets for v in variables):
            raise pack.UnpackableError("a product reads some of several values that lie side by side")
        return [(part, offsets[v]) for part, v in zip(parts, variables, strict=True)]

    def gather(self, tables: list, sources: list[int], columns: list, slices: list) -> None:
        """A value of rows of tables, for those that were met."""
        if not tables:
            return
        found = []
        for operand, here in tables:
            table, arguments = self.table(operand)
            found.append(table)
            self.constants += arguments
            columns.append((table.width, self.isa.padded(table.width)))
            slices.append(here)
        value = self.new_value(tuple(t.width for t in found))
        self.stages.append(Gather(value, tuple(found)))
        sources.append(value)
        tables.clear()

    def table(self, operand: Operand) -> tuple[Table, list]:
        value = operand.data.value.numpy()
        made, form = pack.plain(self.writer.constants, value)
        self.tables_coded |= form is not None
        ids = [] if operand.ids is None else [self.writer.plain_rows(operand.ids)]
        return Table(len(value), operand.source.width, operand.ids is not None, form), [*made, *ids]

    def residual(self, operand: Operand) -> tuple[int | Table, list]:
        if operand.tensor is not None:
            return self.load(operand.tensor), []
        return self.table(operand)

    def ordered(self, weight: np.ndarray, slices: list[slice]) -> np.ndarray:
        """A weight's columns in the order in which they are read."""
        made = np.ascontiguousarray(np.concatenate([weight[:, s] for s in slices], 1))
        blocks = self.writer.constants.blocks_of(weight)
        if blocks is not None and not np.array_equal(made, weight):
            raise pack.UnpackableError("low-bit weights of reordered sources")
        return made if blocks is None else weight

    def save_plain(self, node: Node, var: Var) -> None:
        if len(node.values) > 1:
            raise pack.UnpackableError("plain rows of one of several values")
        number = self.output(node, Tensor(node.parts, interleaved=False, dtype=node.dtype, written=True))
        self.stages.append(Save(self.value_of[var], number))

    # Layouts alone.

    def convert(self, var: Var) -> None:
        """A kernel that brings plain rows to a row-interleaved tensor."""
        parts = (int(shape(var)[-1]),)
        value = self.load(var)
        node = Node((var,), var)
        self.stages.append(Save(value, self.output(node, Tensor(parts, written=True))))
        self.emit("rows side by side")

    def unpack(self, var: Var) -> None:
        """A kernel that brings a row-interleaved tensor to plain rows."""
        value = self.load(var)
        node = Node((var,), var)
        parts = self.values[value].parts
        self.stages.append(Save(value, self.output(node, Tensor(parts, interleaved=False, written=True))))
        self.emit("rows one after another")

    def attend_row(self, node: Node, spec: Attention, args: list[Expr]) -> Var:
        """The attention of one query, as a block of four that are all the same."""
        query, key, value, *constants = args
        parts = (spec.width,)
        loaded, out = self.new_value(parts), self.new_value(parts)
        self.stages.append(Load(loaded, self.input(Tensor(parts, interleaved=False), query)))
        keys, values = (self.input(Tensor(parts), tensor) for tensor in (key, value))
        self.stages.append(Attend(out, loaded, keys, values))
        self.constants += constants
        one, self.single = Node(node.values, node.expr), True
        self.stages.append(Save(out, self.output(one, Tensor(parts, interleaved=False, written=True))))
        self.emit("the row that the head reads")
        return self.writer.plain[node.values[0]]

    # The call.

    def overwritten(self) -> tuple[int, int] | None:
        """(input, output): a tensor whose rows are read for the last time, block by block, and one that can lie in
        its place."""
        ends = {id(n) for n in self.group.nodes}
        for number, out in enumerate(self.outputs):
            if not out.tensor.interleaved:
                continue
            for index, (tensor, expr) in enumerate(self.inputs):
                variables = [v for v, s in self.writer.stored.items() if s.expr.same_as(expr)]
                if not variables or not tensor.interleaved or width(tensor.parts, self.isa) != width(
                    out.tensor.parts, self.isa
                ):  # fmt: skip
                    continue
                if self.writer.is_last(variables, ends):
                    return index, number
        return None

    def emit(self, reason: str | None = None) -> None:
        pair = self.overwritten()
        taken = None if pair is None else pair[0]
        order = [i for i in range(len(self.inputs)) if i != taken]
        outs = list(range(len(self.outputs)))
        if pair is not None:
            outs.remove(pair[1])
            outs.insert(0, pair[1])
        number = {i: at for at, i in enumerate(order)}
        for at, out in enumerate(outs):
            number[-out - 1] = len(order) + at
        if pair is not None:
            number[taken] = number[-pair[1] - 1]
        tensors = [self.inputs[i][0] for i in order] + [self.outputs[o].tensor for o in outs]
        spec = RowBlock(
            tuple(self.values), tuple(tensors), tuple(_renumbered(s, number) for s in self.stages), self.single
        )
        args = [self.inputs[i][1] for i in order] + self.constants
        inplace = None
        if pair is not None:
            inplace = len(args)
            args.append(self.inputs[taken][1])
        func = row_block(spec, self.isa)
        made_by = [self.outputs[o] for o in outs]
        count = len(self.group.nodes)
        reason = reason or f"{count} operator{'s' * (count != 1)} in one loop over blocks of four rows"
        name = made_by[-1].node.values[0].name
        (call,) = self.writer.call(func, name, args, [o.type for o in made_by], reason, inplace=inplace)
        for index, out in enumerate(made_by):
            var = call if len(made_by) == 1 else self.writer.emit_part(call, index, out.node.values[0].name)
            self.keep(out, var)

    def keep(self, out: _Output, var: Var) -> None:
        if out.tensor.interleaved:
            stored = Stored(var, out.tensor.parts)
            for value in out.node.values:
                self.writer.stored[value] = stored
        else:
            self.writer.plain[out.node.values[0]] = var


def _renumbered(stage: Stage, number: dict[int, int]) -> Stage:
    if isinstance(stage, (Load, Save)):
        return type(stage)(stage.value, number[stage.tensor])
    if isinstance(stage, Attend):
        return Attend(stage.value, stage.query, number[stage.keys], number[stage.values])
    if isinstance(stage, (Linear, Pool, Window)) and stage.tensor is not None:
        return replace(stage, tensor=number[stage.tensor])
    return stage
