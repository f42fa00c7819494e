"""What a model gives, as it lies in memory: a reshape at its end would copy every value for nothing."""

from __future__ import annotations

from tvm import IRModule, relax
from tvm.ir import Var

from embbert_tvm.graph.dataflow import Dataflow, Expr, op_name, substitute


def keep_outputs_flat(mod: IRModule) -> IRModule:
    """Give what is reshaped in the place of outputs that are reshapes of something that is computed."""
    graph = Dataflow(mod)
    found = [_unshaped(output, graph) for output in graph.outputs]
    if all(new.same_as(old) for new, old in zip(found, graph.outputs, strict=True)):
        return mod
    kernels = {name: func for name, func in mod.functions.items() if name.name_hint != "main"}
    builder = relax.BlockBuilder(IRModule(kernels, attrs=mod.attrs))
    with builder.function("main", list(graph.function.params), dict(graph.function.attrs)):
        with builder.dataflow():
            remap: dict[Var, Expr] = {}
            for var, value in graph.bindings:
                remap[var] = builder.emit(substitute(value, remap), name_hint=var.name)
            given = [substitute(output, remap) for output in found]
            out = builder.emit_output(given[0] if len(given) == 1 else relax.Tuple(given), name_hint="logits")
        builder.emit_func_output(out)
    return relax.transform.DeadCodeElimination()(builder.finalize())


def _unshaped(output: Expr, graph: Dataflow) -> Expr:
    """What an output holds in another shape; the output itself where that is the input or a constant."""
    found = output
    while isinstance(found, Var):
        made = graph.binding(found)
        if isinstance(made, Var):
            found = made
        elif op_name(made) == "reshape" and isinstance(made.args[0], Var) and graph.binding(made.args[0]) is not None:
            found = made.args[0]
        else:
            return found
    return output
