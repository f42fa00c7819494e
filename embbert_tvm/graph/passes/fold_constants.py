"""Compute what only constants decide, by TVM."""

from __future__ import annotations

from tvm import IRModule, relax
from tvm.ir import Call

from embbert_tvm.graph.dataflow import Dataflow, is_tensor, shape, variables


def fold_constants(mod: IRModule) -> IRModule:
    """TVM's FoldConstant, which legalizes every operator to look, where a call reads no variable but constants."""
    graph = Dataflow(mod)
    of_the_text = set(graph.function.params)
    for var, value in graph.bindings:
        of_its_length = is_tensor(var) and not all(isinstance(dim, int) for dim in shape(var))
        if of_its_length or any(read in of_the_text for read in variables(value)):
            of_the_text.add(var)
        elif isinstance(value, Call):
            return relax.transform.FoldConstant()(mod)
    return mod
