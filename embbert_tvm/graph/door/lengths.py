"""Tensors that only the length decides, as constants cut to the length.

With batch 1 and a mask of ones everything that an exporter computes from shapes (masks, position ids, rotary tables,
relative positions) is a function of the length alone. Its values at several lengths say which: a constant, a vector
of numbers a * L + b, or a table for the longest text of which a text takes the first rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from embbert_tvm.errors import InputError
from embbert_tvm.graph.door.inputs import rename
from embbert_tvm.graph.door.probe import IDS, all_equal, names_read, same

# Operators that broadcast their operands against each other.
BROADCASTING = {
    "Add", "Sub", "Mul", "Div", "Pow", "Where", "And", "Or", "Xor", "Equal", "Less", "LessOrEqual", "Greater",
    "GreaterOrEqual", "Min", "Max", "Mod",
}  # fmt: skip
_SHAPES = ("Shape", "Size")
# Tensors of more elements are kept whole only where no smaller form is found.
_LARGE = 2**24

Values = Mapping[int, np.ndarray]


@dataclass(frozen=True)
class Affine:
    """a * L + b."""

    a: int
    b: int

    def __call__(self, length: int) -> int:
        return self.a * length + self.b


def affine(values: Mapping[int, int]) -> Affine | None:
    """The a * L + b with whole a and b that an integer is at all lengths, None where there is none."""
    if len(values) == 1:
        return Affine(0, next(iter(values.values())))
    (l0, v0), (l1, v1), *_ = values.items()
    if (v1 - v0) % (l1 - l0):
        return None
    found = Affine((v1 - v0) // (l1 - l0), 0)
    found = Affine(found.a, v0 - found.a * l0)
    return found if all(found(length) == value for length, value in values.items()) else None


def of_the_length(graph: onnx.GraphProto) -> tuple[set[str], set[str]]:
    """(tensors that no token decides, those of them that some operator reads together with tokens)."""
    zeros = {t.name for t in graph.initializer if t.data_type in (6, 7) and not numpy_helper.to_array(t).any()}
    tainted, free, border = {IDS}, set(), set()
    for node in graph.node:
        read = names_read(node)
        # A count, or zeros of the same shape: the tokens themselves have no part in it.
        only_shape = node.op_type in _SHAPES or (node.op_type == "Mul" and not zeros.isdisjoint(read))
        # Constants that are quantized say how, which folding would hide.
        quantized = node.op_type in ("QuantizeLinear", "DequantizeLinear")
        if not quantized and (only_shape or tainted.isdisjoint(read)):
            free.update(node.output)
            continue
        tainted.update(node.output)
        border.update(read)
    border.update(o.name for o in graph.output)
    return free, border & free


@dataclass
class LengthTables:
    """Builds what takes the place of tensors that the length decides. graph: changed in place."""

    graph: onnx.GraphProto
    longest: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    _made: dict[object, str] = field(default_factory=dict)

    def constant(self, name: str, array: np.ndarray) -> str:
        """An initializer, under a name of its own."""
        array = np.asarray(array, order="C")
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._made:
            taken = {t.name for t in self.graph.initializer}
            unique, count = name, 2
            while unique in taken:
                unique, count = f"{name}.{count}", count + 1
            self.graph.initializer.append(numpy_helper.from_array(array, unique))
            self._made[key] = unique
        return self._made[key]

    def node(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def length(self, value: Affine) -> str:
        """a * L + b as a vector of one int64."""
        if value.a == 0:
            return self.constant(f"door.{value.b}", np.array([value.b]))
        if value in self._made:
            return self._made[value]
        if value == Affine(1, 0):
            made = self.node("Shape", [IDS], "door.length", start=1, end=2)
        else:
            # TVM's importer computes with the numbers of a shape, not with vectors of them.
            dims, one = self.node("Shape", [IDS], f"door.dims{len(self.nodes)}"), self.constant("door.1", np.array(1))
            made = self.node("Gather", [dims, one], f"{dims}.length", axis=0)
            for op, number, neutral in (("Mul", value.a, 1), ("Add", value.b, 0)):
                if number != neutral:
                    made = self.node(op, [made, self.constant(f"door.{number}", np.array(number))], f"{made}.{op}")
            made = self.node("Unsqueeze", [made, self.constant("door.axis", np.array([0]))], f"{made}.vector")
        self._made[value] = made
        return made

    def vector(self, name: str, elements: list[Affine], rank: int) -> str:
        """The elements as int64: a vector, or of rank 0."""
        parts = [self.length(e) for e in elements]
        if rank == 0:
            shape = self.constant("door.scalar", np.array([], np.int64))
            return self.node("Reshape", [parts[0], shape], name)
        return parts[0] if len(parts) == 1 else self.node("Concat", parts, name, axis=0)

    def table(self, name: str, values: Values, scope: str) -> str | None:
        """The tensor as a constant of the longest text cut to the length; None where it is no such thing."""
        whole = values[self.longest]
        extents = [affine({n: v.shape[axis] for n, v in values.items()}) for axis in range(whole.ndim)]
        if None in extents or any(e.a not in (0, 1) for e in extents):
            return None
        grown = [axis for axis, e in enumerate(extents) if e.a]
        if not all(same(whole[tuple(slice(0, e(n)) for e in extents)], v) for n, v in values.items()):
            return None
        if len(grown) == 2 and grown == [whole.ndim - 2, whole.ndim - 1] and not any(extents[a].b for a in grown):
            banded = whole[..., :-1, :-1]
            if np.array_equal(banded, whole[..., 1:, 1:]):
                return self.band(name, whole, scope)
        if whole.size > _LARGE:
            raise InputError(
                f"the model makes {name} of the length alone, {whole.shape} for {self.longest} tokens, which is too "
                "large for a table: compile it for shorter texts with --max-length"
            )
        starts = self.constant("door.starts", np.zeros(len(grown), np.int64))
        axes = self.constant("door.axes", np.array(grown))
        ends = self.vector(f"{name}.ends", [extents[a] for a in grown], 1)
        return self.node("Slice", [self.constant(scope, whole), starts, ends, axes], name)

    def band(self, name: str, whole: np.ndarray, scope: str) -> str:
        """A matrix of rows i and columns j that j - i decides: kept as one value for each difference."""
        n = self.longest
        band = np.concatenate([whole[..., :0:-1, 0], whole[..., 0, :]], -1)
        up = self.range("door.columns", np.arange(n), [1, -1])
        down = self.range("door.rows", np.arange(n)[::-1], [-1, 1])
        if "differences" not in self._made:
            self._made["differences"] = self.node("Add", [up, down], "door.differences")
        return self.node("Gather", [self.constant(scope, band), self._made["differences"]], name, axis=whole.ndim - 2)

    def range(self, name: str, numbers: np.ndarray, shape: list[int]) -> str:
        if name not in self._made:
            made = self.first(f"{name}.cut", self.constant(f"{name}.all", numbers))
            self._made[name] = self.node("Reshape", [made, self.constant(f"{name}.shape", np.array(shape))], name)
        return self._made[name]

    def first(self, name: str, vector: str) -> str:
        """The first elements of a vector, as many as there are tokens."""
        start, axis = self.constant("door.start", np.array([0])), self.constant("door.axis", np.array([0]))
        return self.node("Slice", [vector, start, self.length(Affine(1, 0)), axis], name)

    def number(self, name: str, values: Values) -> str | None:
        """A tensor of one shape whose every element is a * L + b, in its own type."""
        first = next(iter(values.values()))
        if any(v.shape != first.shape or not np.array_equal(v, np.rint(v)) for v in values.values()):
            return None
        if first.dtype.kind not in "if":
            return None
        found = [affine({n: int(v.reshape(-1)[k]) for n, v in values.items()}) for k in range(first.size)]
        if None in found:
            return None
        if first.dtype == np.int64 and first.ndim <= 1:
            return self.vector(name, found, first.ndim)
        if first.dtype.kind == "i" or len(set(found)) > 1:
            return None
        # As a real number: a sum over so many ones.
        one = found[0]
        cut = self.first(f"{name}.ones", self.constant("door.ones", np.full(self.longest, one.a, np.float32)))
        total = self.node("ReduceSum", [cut, self.constant("door.axis", np.array([0]))], f"{name}.sum", keepdims=1)
        if one.b:
            more = self.constant(f"{name}.more", np.array([one.b], np.float32))
            total = self.node("Add", [total, more], f"{name}.all")
        return self.node("Reshape", [total, self.constant(f"{name}.shape", np.array(first.shape, np.int64))], name)


def _uniform_axes(at: Values) -> tuple[int, ...]:
    """The axes along which a tensor has one value at every length."""
    some, *_ = at.values()

    def uniform(value: np.ndarray, axis: int) -> bool:
        return value.shape[axis] > 0 and bool((value == value.take([0], axis)).all())

    return tuple(axis for axis in range(some.ndim) if all(uniform(v, axis) for v in at.values()))


def _shrunk(at: Values, axes: tuple[int, ...]) -> dict[int, np.ndarray]:
    """A tensor with those axes brought to 1, and those of them that come first left out."""
    cut = dict(at)
    for axis in axes:
        cut = {n: v.take([0], axis) for n, v in cut.items()}
    leading = 0
    while leading in axes and leading < next(iter(at.values())).ndim - 1:
        leading += 1
    return {n: v.reshape(v.shape[leading:]) for n, v in cut.items()}


@dataclass
class Replacement:
    """Replaces what the length alone decides in a graph.

    Args:
        graph: changed in place by `run`.
        values: every tensor that the length alone decides and that is read together with tokens, at several lengths.
        sizes: the shape of any tensor at some lengths.
        longest: the longest text, one of the lengths of `values`.
    """

    graph: onnx.GraphProto
    values: Mapping[str, Values]
    sizes: Mapping[str, Mapping[int, tuple[int, ...]]]
    longest: int

    def __post_init__(self) -> None:
        self.tables = LengthTables(self.graph, self.longest)
        self.producers = {name: node for node in self.graph.node for name in node.output}
        self.initial = {t.name for t in self.graph.initializer}
        self._done: dict[tuple[str, tuple[int, ...]], str] = {}

    def run(self) -> None:
        """Raises InputError for a tensor that has no such form."""
        free, border = of_the_length(self.graph)
        kept = [part for node in self.graph.node if not free.issuperset(node.output) for part in self._from_end(node)]
        for node in kept:
            if node.op_type == "Reshape" and node.input[1] in self.values:
                node.input[1] = self._target(node)
            if node.op_type == "Slice":
                self._set_bounds(node)
            for index, name in enumerate(node.input):
                if name in border:
                    node.input[index] = self._form(name, self._axes(node, index, name))
            for name in border.intersection(names_read(node)).difference(node.input):
                for attribute in node.attribute:
                    for inner in (attribute.g, *attribute.graphs) if attribute.type in (5, 10) else ():
                        rename(inner, name, self._form(name, ()))
        del self.graph.node[:]
        self.graph.node.extend([*self.tables.nodes, *kept])

    def _target(self, node: onnx.NodeProto) -> str:
        """The target of a Reshape in constants: 0 for a dimension that stays, -1 for another that follows L."""
        given, out = self.sizes.get(node.input[0]), self.sizes.get(node.output[0])
        if given is None or out is None:
            return node.input[1]
        dims = []
        for axis in range(len(next(iter(out.values())))):
            extents = {shape[axis] for shape in out.values()}
            stays = all(axis < len(given[n]) and given[n][axis] == shape[axis] for n, shape in out.items())
            dims.append(extents.pop() if len(extents) == 1 else 0 if stays else -1)
        if dims.count(-1) > 1:
            return node.input[1]
        # With `allowzero` 0 would mean none.
        kept = [a for a in node.attribute if a.name != "allowzero"]
        del node.attribute[:]
        node.attribute.extend(kept)
        return self.tables.constant("door.target", np.array(dims, np.int64))

    def _from_end(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """A Gather of one token counted from the end, as the Slice that it is; other nodes as they are."""
        index = self._known(node.input[1]) if node.op_type == "Gather" else None
        given = self.sizes.get(node.input[0]) if index else None
        value = next(iter(index.values())) if index else None
        if not given or value.size != 1 or value.ndim > 1 or int(value.reshape(-1)[0]) >= 0 or not all_equal(index):
            return [node]
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        rows = affine({n: shape[axis] for n, shape in given.items()})
        if rows is None or not rows.a:
            return [node]
        first = Affine(rows.a, rows.b + int(value.reshape(-1)[0]))
        axes, name = self.tables.constant(f"door.axis{axis}", np.array([axis])), node.output[0]
        last, end = [first], [Affine(first.a, first.b + 1)]
        over = [axis]
        if axis and all(shape[0] == 1 for shape in given.values()):
            # With the batch, a row of an unknown number is told from the first one.
            last, end, over = [Affine(0, 0), *last], [Affine(0, 1), *end], [0, axis]
        bounds = [self.tables.vector(f"{name}.{which}", e, 1) for which, e in (("last", last), ("end", end))]
        over = self.tables.constant("door.over", np.array(over))
        cut = helper.make_node("Slice", [node.input[0], *bounds, over], [f"{name}.row"], name=f"{name}.row")
        if value.ndim:
            cut.output[0] = name
            return [cut]
        return [cut, helper.make_node("Squeeze", [f"{name}.row", axes], [name], name=node.name or name)]

    def _set_bounds(self, node: onnx.NodeProto) -> None:
        """Give a Slice along what follows L starts and ends that lie inside it, so that its shape is plain."""
        given, out = self.sizes.get(node.input[0]), self.sizes.get(node.output[0])
        starts, axes = self._known(node.input[1]), self._known(node.input[3] if len(node.input) > 3 else "")
        steps = self._known(node.input[4]) if len(node.input) > 4 and node.input[4] else None
        if not given or not out or starts is None or axes is None:
            return
        if steps is not None and any((v != 1).any() for v in steps.values()):
            return
        order = [int(a) for a in next(iter(axes.values()))]
        first, last = [], []
        for k, axis in enumerate(order):
            begin = {}
            for n, shape in given.items():
                if n not in starts:
                    return
                start = int(starts[n][k])
                begin[n] = min(max(start + shape[axis] if start < 0 else start, 0), shape[axis])
            first.append(affine(begin) if len(begin) > 1 else None)
            last.append(affine({n: begin[n] + out[n][axis] for n in begin}) if len(begin) > 1 else None)
        if None in first or None in last or not any(e.a for e in (*first, *last)):
            return
        node.input[1] = self.tables.vector(f"{node.output[0]}.starts", first, 1)
        node.input[2] = self.tables.vector(f"{node.output[0]}.ends", last, 1)

    def _known(self, name: str) -> Values | None:
        """The value of a tensor at several lengths, where it is a constant or the length decides it."""
        if name in self.values:
            return self.values[name]
        found = next((t for t in self.graph.initializer if t.name == name), None)
        lengths = next(iter(self.sizes.values()))
        return None if found is None else dict.fromkeys(lengths, numpy_helper.to_array(found))

    def _axes(self, node: onnx.NodeProto, index: int, name: str) -> tuple[int, ...]:
        """Axes of an operand that may be brought to 1, as the operator broadcasts it to the same result."""
        if node.op_type not in BROADCASTING or name not in self.values:
            return ()
        axes, out = _uniform_axes(self.values[name]), self.sizes.get(node.output[0], {})
        others = [self.sizes.get(x, {}) for k, x in enumerate(node.input) if k != index]
        for length, shape in out.items():
            if any(length not in other for other in others) or length not in self.values[name]:
                return ()
            own = _shrunk({length: self.values[name][length]}, axes)[length].shape
            if np.broadcast_shapes(own, *(other[length] for other in others)) != shape:
                return ()
        return axes if out else ()

    def _form(self, name: str, axes: tuple[int, ...]) -> str:
        """The name of what takes a tensor's place, with those axes brought to 1."""
        if name not in self.values:
            raise InputError(f"the model makes {name}, no tensor, of the length alone: that is not compiled")
        if (name, axes) not in self._done:
            at, label = _shrunk(self.values[name], axes), f"{name}.door{len(self._done)}"
            if all_equal(at):
                made = self.tables.constant(self._scope(name), at[self.longest])
            else:
                made = self.tables.number(label, at) or self.tables.table(label, at, self._scope(name))
            if made is None:
                raise InputError(
                    f"the model makes {name} of the length alone in a way that is not compiled: export it with "
                    "position ids and masks of constants"
                )
            self._done[name, axes] = made
        return self._done[name, axes]

    def _scope(self, name: str) -> str:
        """What a table is called: rows of a parameter after that, so that names of the model stand in the C."""
        node = self.producers.get(name)
        lookup = node is not None and node.op_type == "Gather" and node.input[0] in self.initial
        return node.input[0] if lookup and self.values[name][self.longest].dtype.kind == "f" else f"{name}.table"
