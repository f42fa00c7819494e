"""Operators as the stages of a row-block kernel: what each reads, its packed constants, where its result goes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from tvm.ir import Var

from embbert_tvm.graph import pack, row_block_half
from embbert_tvm.graph.dataflow import Expr, shape
from embbert_tvm.graph.row_block_call import KernelCall
from embbert_tvm.graph.row_block_graph import LinearMap, Node, Operand
from embbert_tvm.kernels.attention import Attention
from embbert_tvm.kernels.epilogues import Activate, Dequantize, Requantize
from embbert_tvm.kernels.gate import Gate as GateSpec
from embbert_tvm.kernels.integer_recurrence import IntegerRecurrence
from embbert_tvm.kernels.low_bits import COMPRESSED
from embbert_tvm.kernels.pool_rows import PoolRows as PoolRowsSpec
from embbert_tvm.kernels.row_block.spec import (
    Attend,
    Gate,
    Gather,
    Linear,
    Load,
    Parts,
    Pool,
    PoolRows,
    Reach,
    Recurrence,
    Rescale,
    Save,
    Scan,
    Table,
    Tensor,
    Unfold,
    Window,
)


def write_group(call: KernelCall) -> None:
    """Emit the kernel of a group."""
    for node in call.group.nodes:
        _add(call, node)
    for node in call.group.roots:
        if not node.is_float and node.pool is None and node.values[0] in call.value_of:
            for var in node.values:
                if call.writer.wants(var)[1]:
                    call.save_plain(node, var)
    call.emit()
    for node in call.group.roots:
        if node.leaves_few and call.writer.wants(node.values[0])[1]:
            call.writer.finish(node)


def _add(call: KernelCall, node: Node) -> None:
    if node.half is not None:
        row_block_half.add(call, node)
    elif node.heads:
        _attend(call, node)
    elif node.filter is not None:
        _window(call, node)
    elif node.pool is not None:
        _pool(call, node)
    elif node.rescale is not None:
        value, number = call.results(node, stores=False)
        call.stages.append(Rescale(value, call.load(node.rescale.x)))
        call.constants.append(node.rescale.multiplier)
        call.save(value, number)
    elif node.row_by_row is not None:
        _row_by_row(call, node)
    else:
        _linear(call, node)


def _attend(call: KernelCall, node: Node) -> None:
    head = node.heads[0]
    query = call.load(head.query)
    share = head.spec.share
    keys, values = call.interleaved_tensor(head.key, share), call.interleaved_tensor(head.value, share)
    out = call.new_value(node.parts, node.values)
    call.stages.append(Attend(out, query, keys, values, share, head.spec.distances, head.spec.relative))
    call.constants += [head.exp]
    for vectors in zip(*((h.score_multiplier, h.ratio, *h.by_distance) for h in node.heads), strict=True):
        call.constants.append(call.named(vectors[0], np.concatenate(vectors)))
    if node in call.group.roots and call.writer.wants(node.values[0])[0]:
        number = call.output(node, Tensor(node.parts, written=True))
        call.stages.append(Save(out, number))


def _window(call: KernelCall, node: Node) -> None:
    """A causal filter in the loop over blocks."""
    found, spec = node.filter, node.filter.spec
    if call.writer.constants.blocks_of(found.weight) is not None:
        raise pack.UnpackableError("filters of fewer than 8 bits in a block of rows")
    if not isinstance(spec.epilogue, (Activate, Requantize)):
        raise pack.UnpackableError(f"a filter that ends in {spec.epilogue.name}")
    source = call.load(found.x) if node.streams else None
    tensor = None if node.streams else call.interleaved_tensor(found.x)
    weight = pack.dilated(call.writer.constants, found.weight, spec.dilation)
    taps, weight = pack.taps(call.writer.constants, weight, spec.expansion)
    call.constants += [weight, found.bias, *found.epilogue]
    value, number = call.results(node, stores=False)
    call.stages.append(Window(value, taps, spec.expansion, spec.epilogue, tensor, source, spec.after))
    call.save(value, number)


def _row_by_row(call: KernelCall, node: Node) -> None:
    """A gate, a scan or a recurrence."""
    found = node.row_by_row
    inputs = [call.load(v) for v in found.inputs]
    value, number = call.results(node, stores=False)
    call.constants += found.constants
    if isinstance(found.spec, GateSpec):
        call.stages.append(Gate(value, *inputs))
    else:
        stage = Recurrence if isinstance(found.spec, IntegerRecurrence) else Scan
        call.stages.append(stage(value, *inputs, spec=found.spec))
    call.save(value, number)


def _pool(call: KernelCall, node: Node) -> None:
    """A pooling of all rows, as they come, or of each few."""
    source = call.load(node.pool.x)
    if isinstance(node.pool.spec, PoolRowsSpec):
        call.constants += node.pool.constants
        number = call.output(node, Tensor(node.parts, written=True, share=node.pool.spec.size))
        call.stages.append(PoolRows(source, number, node.pool.spec))
        return
    number = call.output(node, Tensor(node.parts, interleaved=False, dtype=node.dtype, written=True, rows=1))
    call.constants += node.pool.constants
    call.stages.append(Pool(source, number, node.pool.spec))


# Products.


@dataclass
class _Read:
    """What a product reads side by side: values, the columns of their parts with padding, where each part lies in the
    weight, and whether a table is stored in codes."""

    values: list[int] = field(default_factory=list)
    columns: list[tuple[int, int]] = field(default_factory=list)
    slices: list[slice] = field(default_factory=list)
    coded: bool = False

    def place(self, call: KernelCall, parts: Parts, first: int) -> None:
        """Note that parts come next, which lie in the weight from column `first` on."""
        for part in parts:
            self.columns.append((part, call.isa.padded(part)))
            self.slices.append(slice(first, first + part))
            first += part


def _linear(call: KernelCall, node: Node) -> None:
    first, constants_of = node.maps[0], call.writer.constants
    read = _sources(call, first)
    rows = call.wide(node.parts)
    residuals = [_residual(call, o) for o in first.residuals]
    constants: list = []
    weight_format = packing = None
    if read.values:
        k = call.isa.dot_columns(sum(wide for _, wide in read.columns))
        matrices = [_ordered(call, m.weight, read.slices) for m in node.maps]
        made, weight_format, packing = pack.weight(constants_of, matrices, rows, read.columns, k, call.isa)
        constants += made
    compressed = weight_format is not None or read.coded
    bias_dtype, scale_dtype = COMPRESSED if compressed else (None, None)

    def vector(values: list[np.ndarray], dtype: str | None) -> np.ndarray:
        joined = values[0] if len(values) == 1 else call.named(values[0], np.concatenate(values, -1))
        return pack.vector(constants_of, joined, rows, dtype)

    constants.append(vector([m.bias for m in node.maps], bias_dtype))
    for table, ids in first.small_tables:
        constants += [vector([table], bias_dtype), call.writer.plain_rows(ids)]
    for (_, data), operand in zip(residuals, first.residuals, strict=True):
        constants += data
        constants.append(vector([operand.factor], None))
    epilogue = first.spec.epilogue
    for index, value in enumerate(first.epilogue):
        of_columns = len(value.shape) == 1 and value.shape[0] == first.spec.n and value.dtype == np.int32
        if not of_columns or isinstance(epilogue, Dequantize):
            constants.append(value)
            continue
        dtype = scale_dtype if index in epilogue.compressed else None
        constants.append(vector([m.epilogue[index] for m in node.maps], dtype))
    value, tensor = call.results(node)
    call.stages.append(
        Linear(
            tuple(read.values), node.parts, epilogue, value, tensor, first.spec.small_tables,
            tuple(r for r, _ in residuals), weight_format, compressed, packing,
        )
    )  # fmt: skip
    call.constants += constants


def _sources(call: KernelCall, found: LinearMap) -> _Read:
    read = _Read()
    first, tables = 0, []
    for operand in found.sources:
        here = slice(first, first + operand.source.met)
        first += operand.source.met
        if operand.tensor is None:
            tables.append((operand, here))
            continue
        _gather(call, tables, read)
        if operand.windowed:
            _unfold(call, operand, here.start, read)
            continue
        value = call.load(operand.tensor)
        if value in read.values:
            # A part of what lies side by side: its place is that of its variable among them.
            continue
        read.values.append(value)
        for part, offset in _parts_of(call, value, found):
            read.columns.append((part, call.isa.padded(part)))
            read.slices.append(slice(offset, offset + part))
    _gather(call, tables, read)
    return read


def _unfold(call: KernelCall, operand: Operand, first: int, read: _Read) -> None:
    """A value of the rows of a tensor that a window reaches."""
    tensor = call.interleaved_tensor(operand.tensor)
    if len(call.inputs[tensor][0].parts) > 1:
        raise pack.UnpackableError("a window over some of several values that lie side by side")
    window = _reach(operand)
    parts = (operand.source.width,) * window.taps
    value = call.new_value(parts)
    call.stages.append(Unfold(value, tensor, window))
    read.values.append(value)
    read.place(call, parts, first)


def _reach(operand: Operand) -> Reach:
    return Reach(operand.source.taps, operand.source.after, operand.source.dilation)


def _parts_of(call: KernelCall, value: int, found: LinearMap) -> list[tuple[int, int]]:
    """The columns of each part of a value, and where a product's weight has them."""
    offsets, first = {}, 0
    for operand in found.sources:
        if operand.tensor is not None and not operand.windowed:
            offsets[operand.tensor] = first
        first += operand.source.met
    variables = [v for v, number in call.value_of.items() if number == value]
    parts = call.values[value].parts
    if len(parts) == 1:
        known = next(v for v in variables if v in offsets)
        return [(parts[0], offsets[known])]
    if any(v not in offsets for v in variables):
        raise pack.UnpackableError("a product reads some of several values that lie side by side")
    return [(part, offsets[v]) for part, v in zip(parts, variables, strict=True)]


def _gather(call: KernelCall, tables: list, read: _Read) -> None:
    """A value of rows of tables, for those that were met."""
    if not tables:
        return
    found = []
    for operand, here in tables:
        table, arguments = _table(call, operand)
        read.coded |= table.weight_format is not None
        found.append(table)
        call.constants += arguments
        read.place(call, table.parts, here.start)
    value = call.new_value(tuple(p for t in found for p in t.parts))
    call.stages.append(Gather(value, tuple(found)))
    read.values.append(value)
    tables.clear()


def _table(call: KernelCall, operand: Operand) -> tuple[Table, list]:
    value = operand.data.value.numpy()
    made, weight_format = pack.plain(call.writer.constants, value)
    ids = [] if operand.ids is None else [call.writer.plain_rows(operand.ids)]
    table = Table(len(value), operand.source.width, operand.ids is not None, weight_format, window=_reach(operand))
    return table, [*made, *ids]


def _residual(call: KernelCall, operand: Operand) -> tuple[int | Table, list]:
    if operand.tensor is not None:
        return call.load(operand.tensor), []
    return _table(call, operand)


def _ordered(call: KernelCall, weight: np.ndarray, slices: list[slice]) -> np.ndarray:
    """A weight's columns in the order in which they are read."""
    made = np.ascontiguousarray(np.concatenate([weight[:, s] for s in slices], 1))
    blocks = call.writer.constants.blocks_of(weight)
    if blocks is not None and not np.array_equal(made, weight):
        raise pack.UnpackableError("low-bit weights of reordered sources")
    return made if blocks is None else weight


# Layouts alone.


def convert(call: KernelCall, var: Var) -> None:
    """A kernel that brings plain rows to a row-interleaved tensor."""
    parts = (int(shape(var)[-1]),)
    value = call.load(var)
    tensor = Tensor(parts, dtype=str(var.ty.dtype), written=True)
    call.stages.append(Save(value, call.output(Node((var,), var), tensor)))
    call.emit("rows side by side")


def unpack(call: KernelCall, var: Var) -> None:
    """A kernel that brings a row-interleaved tensor to plain rows."""
    value = call.load(var)
    tensor = Tensor(call.values[value].parts, interleaved=False, dtype=str(var.ty.dtype), written=True)
    call.stages.append(Save(value, call.output(Node((var,), var), tensor)))
    call.emit("rows one after another")


def attend_row(call: KernelCall, node: Node, spec: Attention, args: list[Expr]) -> Var:
    """The attention of one query, as a block of four that are all the same."""
    query, key, value, *constants = args
    parts = (spec.width,)
    loaded, out = call.new_value(parts), call.new_value(parts)
    call.stages.append(Load(loaded, call.input(Tensor(parts, interleaved=False), query)))
    keys, values = (call.input(Tensor(parts), tensor) for tensor in (key, value))
    call.stages.append(Attend(out, loaded, keys, values, distances=spec.distances, relative=spec.relative))
    call.constants += constants
    one = Node(node.values, node.expr)
    call.stages.append(Save(out, call.output(one, Tensor(parts, interleaved=False, written=True))))
    call.emit("the row that the head reads")
    return call.writer.plain[node.values[0]]
