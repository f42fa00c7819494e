"""How many tokens, and which, a module takes: by the tables that it looks up."""

from __future__ import annotations

from tvm import IRModule, relax, sym, tirx

from embbert_tvm.errors import InputError
from embbert_tvm.graph.dataflow import Dataflow, constant, is_tensor, op_name, shape
from embbert_tvm.graph.door.normalize import MOST

_MOST_TRIED = 256


def limits(mod: IRModule) -> tuple[int, int | None]:
    """(vocabulary size, most tokens) of a simplified module: the rows of the tables that ids and positions index."""
    graph = Dataflow(mod)
    (ids,) = graph.function.params
    vocabulary, positions = [], []
    for _, value in graph.bindings:
        name = op_name(value)
        table = constant(value.args[0]) if name in ("take", "strided_slice") else None
        if table is None:
            continue
        if name == "take" and _reshaped(value.args[1], graph).same_as(ids):
            vocabulary.append(len(table))
        elif name == "strided_slice" and not isinstance(value.args[3].fields[0], tirx.IntImm):
            cut = zip(value.args[1].fields, value.args[3].fields, strict=True)
            positions += [table.shape[int(axis)] for axis, end in cut if not isinstance(end, tirx.IntImm)]
    if not vocabulary:
        raise InputError("the model looks nothing up by its input: it is not a text classifier")
    if most := int(graph.function.attrs[MOST]) if MOST in graph.function.attrs else 0:
        positions.append(most)
    return min(vocabulary), min(positions, default=None)


def shortest(mod: IRModule, least: int) -> int:
    """The fewest tokens, `least` or more, of which every tensor of a simplified module has rows: poolings with a stride
    leave none of a text that is shorter than their windows, where onnxruntime leaves one."""
    graph = Dataflow(mod)
    length = shape(graph.function.params[0])[1]
    if isinstance(length, int):
        return least
    counts = [d for var, _ in graph.bindings if is_tensor(var) for d in shape(var) if not isinstance(d, int)]

    def has_rows(tokens: int) -> bool:
        analyzer = sym.Analyzer()
        analyzer.bind(length, tirx.IntImm("int64", tokens))
        found = [analyzer.simplify(count) for count in counts]
        return all(not isinstance(count, tirx.IntImm) or int(count) > 0 for count in found)

    return next(filter(has_rows, range(least, least + _MOST_TRIED)), least)


def _reshaped(expr: relax.Expr, graph: Dataflow) -> relax.Expr:
    """What a tensor holds in another shape."""
    while op_name(made := graph.producer(expr)) in ("reshape", "expand_dims", "squeeze", "astype"):
        expr = made.args[0]
    return graph.producer(expr)
