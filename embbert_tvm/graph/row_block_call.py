"""The call of one row-block kernel as it is put together: its values, stages, constants, inputs and outputs."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from tvm import relax, sym, tirx
from tvm.ir import Var

from embbert_tvm.graph import pack
from embbert_tvm.graph.dataflow import Expr, shape
from embbert_tvm.graph.row_block_graph import Access, Node, is_share
from embbert_tvm.graph.row_block_groups import Group
from embbert_tvm.kernels.isa import Isa
from embbert_tvm.kernels.row_block.kernel import row_block
from embbert_tvm.kernels.row_block.scratch import reads, width
from embbert_tvm.kernels.row_block.spec import (
    Attend,
    HalfAttend,
    HalfLinear,
    Linear,
    Load,
    Parts,
    Pool,
    PoolRows,
    RowBlock,
    Save,
    Stage,
    Tensor,
    Unfold,
    Value,
    Window,
)
from embbert_tvm.kernels.specs import with_spec

if TYPE_CHECKING:
    from embbert_tvm.graph.fuse_row_blocks import _Writer


_MANY = 1 << 16  # more rows than any convolution leaves out


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
class KernelCall:
    """one_row: whether it is for one row alone. like: a value of as many rows, where no group tells how many."""

    writer: _Writer
    group: Group = field(default_factory=Group)
    one_row: bool = False
    like: Var | None = None
    values: list[Value] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    constants: list = field(default_factory=list)
    inputs: list[tuple[Tensor, Expr]] = field(default_factory=list)
    outputs: list[_Output] = field(default_factory=list)
    value_of: dict[Var, int] = field(default_factory=dict)  # of values in scratch

    @property
    def isa(self) -> Isa:
        return self.writer.isa

    @functools.cached_property
    def rows(self):
        """How many rows there are: as many as the text has, or fewer where a convolution leaves out some."""
        if self.like is not None:
            return self.writer.rows_like(self.like)
        nodes = self.group.nodes
        made = [v for n in nodes if not n.leaves_few for v in n.values]
        made += [v for n in nodes for v, access in n.reads if access is Access.ROW]
        dims = [shape(v)[0] for v in made]
        return next((dim for dim in dims if not isinstance(dim, (int, Var))), self.writer.length)

    @functools.cached_property
    def length(self):
        """The rows of the text, or of what a pooling has left of it."""
        return self.rows if is_share(self.rows, self.writer.length) else self.writer.length

    @property
    def skipped(self) -> int:
        """How many rows of the text are left out."""
        if isinstance(self.rows, (int, Var)) or self.length is self.rows:
            return 0
        analyzer = sym.Analyzer()
        analyzer.bind(self.writer.length, tirx.const(_MANY, "int64"))
        return _MANY - int(analyzer.simplify(self.rows))

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
        length = self.rows if tensor.share == 1 else shape(node.values[0])[0]
        if tensor.interleaved:
            dims = [self.isa.groups_of(length), width(tensor.parts, self.isa), self.isa.interleave]
        else:
            dims = [1 if self.one_row else tensor.rows or length, sum(tensor.parts)]
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

    def interleaved_tensor(self, var: Var, share: int = 1) -> int:
        """The row-interleaved tensor of what stages read by other rows than the block's."""
        stored = self.writer.interleaved(var)
        return self.input(Tensor(stored.parts, dtype=str(var.ty.dtype), share=share), stored.expr)

    # Results.

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

    def save(self, value: int, number: int | None) -> None:
        """Store a value where other kernels read it."""
        if number is not None:
            self.stages.append(Save(value, number))

    def save_plain(self, node: Node, var: Var) -> None:
        if len(node.values) > 1:
            raise pack.UnpackableError("plain rows of one of several values")
        number = self.output(node, Tensor(node.parts, interleaved=False, dtype=node.dtype, written=True))
        self.stages.append(Save(self.value_of[var], number))

    def named(self, old: np.ndarray, new: np.ndarray) -> np.ndarray:
        return self.writer.constants.renamed(old, new)

    # The call.

    def overwritten(self) -> tuple[int, int] | None:
        """(input, output): a tensor whose rows are read for the last time, block by block, and one that can lie in
        its place."""
        ends = {id(n) for n in self.group.nodes}
        for number, out in enumerate(self.outputs):
            if not out.tensor.interleaved or out.tensor.share > 1:
                continue
            for index, (tensor, expr) in enumerate(self.inputs):
                variables = [v for v, s in self.writer.stored.items() if s.expr.same_as(expr)]
                alike = width(tensor.parts, self.isa) == width(out.tensor.parts, self.isa)
                alike = alike and tensor.dtype == out.tensor.dtype
                if not variables or not tensor.interleaved or tensor.share > 1 or not alike:
                    continue
                if self.writer.is_last(variables, ends) and self.read_before(index, number):
                    return index, number
        return None

    def read_before(self, index: int, number: int) -> bool:
        """Whether every stage that reads a value of input `index` where it lies is done when output `number` is
        written."""
        if not self.isa.reads_in_place:
            return True
        here = {s.value for s in self.stages if isinstance(s, Load) and s.tensor == index}
        last = max((at for at, s in enumerate(self.stages) if here & set(reads(s))), default=0)
        writes = [at for at, s in enumerate(self.stages) if getattr(s, "tensor", None) == -number - 1]
        return all(at >= last for at in writes)

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
        stages = tuple(_renumbered(s, number) for s in self.stages)
        spec = RowBlock(tuple(self.values), tuple(tensors), stages, self.one_row, self.skipped)
        args = [self.length, *(self.inputs[i][1] for i in order), *self.constants]
        inplace = None
        if pair is not None:
            inplace = len(args)
            args.append(self.inputs[taken][1])
        func = with_spec(row_block(spec, self.isa), spec)
        made_by = [self.outputs[o] for o in outs]
        count = len(self.group.nodes)
        rows = "one row" if self.one_row else f"one loop over blocks of {self.isa.rows} rows"
        reason = reason or f"{count} operator{'s' * (count != 1)} in {rows}"
        names = [out.node.values[0].name for out in made_by]
        name = names[0] if len(names) == 1 else _name_of_several(names[0], names[-1])
        (call,) = self.writer.call(func, name, args, [o.type for o in made_by], reason, inplace)
        for index, out in enumerate(made_by):
            var = call if len(made_by) == 1 else self.writer.emit_part(call, index, names[index])
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
    if isinstance(stage, (Attend, HalfAttend)):
        return replace(stage, keys=number[stage.keys], values=number[stage.values])
    if isinstance(stage, (Unfold, Linear, HalfLinear, Pool, PoolRows, Window)) and stage.tensor is not None:
        return replace(stage, tensor=number[stage.tensor])
    return stage


def _name_of_several(first: str, last: str) -> str:
    """What a call is called that makes values from `first` to `last`: `blocks_0_key_to_value`, say."""
    parts, others = first.split("_"), last.split("_")
    alike = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(parts, others, strict=False)))
    return f"{first}_to_{'_'.join(others[alike:]) or last}"
