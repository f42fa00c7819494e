"""A scheduled PrimFunc to flat loops over flat buffers, without TVM's packed calling convention."""

from __future__ import annotations

from collections.abc import Container

import tvm
from tvm import IRModule, relax, s_tir, tirx

from embbert_tvm.graph.passes.cumsum import call_cumsum


def _lowering(compact: bool) -> tvm.ir.transform.Sequential:
    return tvm.ir.transform.Sequential(
        [
            tirx.transform.BindTarget(tvm.target.Target({"kind": "c"})),
            s_tir.transform.CanonicalizeLoop(),
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            *([s_tir.transform.CompactBufferAllocation()] if compact else []),
            s_tir.transform.LowerMatchBuffer(),
            s_tir.transform.LowerOpaqueBlock(),
            tirx.transform.FlattenBuffer(),
            tirx.transform.NarrowDataType(32),
            s_tir.transform.LoopPartition(),
            tirx.transform.VectorizeLoop(False),
            s_tir.transform.HoistIfThenElse(),
            tirx.transform.UnrollLoop(),
            tirx.transform.StmtSimplify(),
            tirx.transform.RemoveNoOp(),
            s_tir.transform.RewriteUnsafeSelect(),
            tirx.transform.LowerIntrin(),
        ]
    )


_TO_CALLS = (
    call_cumsum,
    relax.backend.DispatchSortScan(),
    relax.transform.LegalizeOps(),
    relax.transform.AnnotateTIROpPattern(),
    relax.transform.FuseOps(),
    relax.transform.FuseTIR(),
    relax.transform.DeadCodeElimination(),
)


def to_calls(mod: IRModule) -> IRModule:
    """Every operator of `main` as a call of a PrimFunc; neighbours that have no kernel of ours are fused."""
    with tvm.target.Target("llvm"):
        for run in _TO_CALLS:
            mod = run(mod)
    return mod


def schedule(func: tirx.PrimFunc, half: Container[int] = ()) -> tirx.PrimFunc:
    """The default schedule: intermediate elementwise stages inlined, each reduction's start in a loop of its own.

    half: parameters that are stored as float16: a reduction to one of them is summed in a float32 beside it.
    """
    if not isinstance(func.body, s_tir.SBlockRealize) or func.body.block.name_hint != "root":
        return func  # TIR written without blocks, as topi does for scans and sorts.
    sch = s_tir.Schedule(func.with_attr("global_symbol", "main"))
    root = sch.get_sblock("root")
    for block in sch.get_child_blocks(root):
        try:
            sch.compute_inline(block)
        except s_tir.ScheduleError:
            continue
    for block in _blocks(sch, root) if half else ():
        _sum_apart(sch, block, {func.params[index] for index in half})
    for block in _blocks(sch, root):
        if sch.get(block).init is not None:
            _part_init(sch, block)
    return sch.mod["main"]


def _blocks(sch: s_tir.Schedule, parent) -> list:
    children = list(sch.get_child_blocks(parent))
    return [b for child in children for b in (child, *_blocks(sch, child))]


def _sum_apart(sch: s_tir.Schedule, block, half: set) -> None:
    found = sch.get(block)
    kinds = [v.iter_type == tirx.IterVar.CommReduce for v in found.iter_vars]
    if not any(kinds) or not any(region.source.name in {p.name for p in half} for region in found.writes):
        return
    loops = sch.get_loops(block)[-len(kinds) :]
    written = sch.cache_write(block, 0, "global")
    spatial = kinds.index(True)
    if spatial and not any(not reduced for reduced in kinds[spatial:]):
        sch.reverse_compute_at(written, loops[spatial - 1])


def _part_init(sch: s_tir.Schedule, block) -> None:
    reduced = {v.var.name for v in sch.get(block).iter_vars if v.iter_type == tirx.IterVar.CommReduce}
    loops = sch.get_loops(block)
    axes = [v.var.name for v in sch.get(block).iter_vars]
    inner = loops[len(loops) - len(axes) :]
    for loop, axis in zip(inner, axes, strict=False):
        if axis in reduced:
            sch.decompose_reduction(block, loop)
            return


def to_loops(func: tirx.PrimFunc, name: str) -> tirx.PrimFunc:
    compact = bool(func.attrs["embbert.compact"]) if "embbert.compact" in func.attrs else True
    return _lowering(compact)(IRModule({name: func}))[name]
