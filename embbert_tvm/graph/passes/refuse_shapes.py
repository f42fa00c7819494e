"""Refuse what is left of arithmetic on shapes."""

from __future__ import annotations

from tvm import IRModule, relax

from embbert_tvm.errors import InputError
from embbert_tvm.graph.dataflow import Dataflow, variables


def refuse_shapes(mod: IRModule) -> IRModule:
    """The module as it is. Raises InputError for one that computes with the shape of a tensor."""
    for var, value in Dataflow(mod).bindings:
        if isinstance(var.ty, relax.ShapeType):
            raise InputError(
                f"the model computes with the shape of {variables(value)[0].name} (a Shape whose values feed other "
                "operators), which is not compiled: export it with constants, or sliced by its input's length alone"
            )
    return mod
