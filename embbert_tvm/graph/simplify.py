"""The simplification of an imported module, until the graph reads as the model's equations."""

from __future__ import annotations

import tvm
from tvm import IRModule, relax

from embbert_tvm.errors import InputError
from embbert_tvm.graph.dataflow import Dataflow, variables
from embbert_tvm.graph.passes.causal_conv import pad_causally
from embbert_tvm.graph.passes.dead_rows import drop_dead_rows
from embbert_tvm.graph.passes.fold_scales import fold_scales
from embbert_tvm.graph.passes.importer_tir import raise_importer_tir
from embbert_tvm.graph.passes.index_guards import drop_index_guards
from embbert_tvm.graph.passes.narrow_integers import narrow_integers
from embbert_tvm.graph.passes.position_slice import slice_positions
from embbert_tvm.graph.passes.rms_norm import fuse_rms_norm
from embbert_tvm.graph.passes.silu import fuse_silu
from embbert_tvm.graph.passes.softplus import fuse_softplus
from embbert_tvm.graph.passes.split_columns import split_columns
from embbert_tvm.graph.passes.split_heads import split_heads
from embbert_tvm.graph.passes.take_in_bounds import take_in_bounds

PASSES = (
    raise_importer_tir,
    take_in_bounds,
    drop_index_guards,
    relax.transform.FoldConstant(),
    # Constants that folding has made (a constant index, say) remove the guards that were left.
    drop_index_guards,
    narrow_integers,
    slice_positions,
    fuse_rms_norm,
    fuse_silu,
    fuse_softplus,
    pad_causally,
    split_columns,
    split_heads,
    fold_scales,
    drop_dead_rows,
)


def simplify(mod: IRModule) -> IRModule:
    """The simplified module. Raises InputError for one that computes with the shape of a tensor."""
    with tvm.target.Target("llvm"):
        for run in PASSES:
            mod = run(mod)
    for var, value in Dataflow(mod).bindings:
        if isinstance(var.ty, relax.ShapeType):
            raise InputError(
                f"the model computes with the shape of {variables(value)[0].name} (a Shape whose values feed other "
                "operators), which is not compiled: export it with constants, or sliced by its input's length alone"
            )
    return mod
