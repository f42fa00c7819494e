"""A scheduled PrimFunc to flat loops over flat buffers, without TVM's packed calling convention."""

from __future__ import annotations

from collections.abc import Collection, Container
from typing import Any

import tvm
import tvm_ffi
from tvm import IRModule, s_tir, tirx
from tvm.ir import TensorLoad, Var


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


def schedule(func: tirx.PrimFunc, half: Collection[int] = ()) -> tirx.PrimFunc:
    """The default schedule: intermediate elementwise stages inlined, each reduction's start in a loop of its own.

    half: parameters that are stored as float16: a reduction to one of them is summed in a float32 beside it.
    """
    if not isinstance(func.body, s_tir.SBlockRealize) or func.body.block.name_hint != "root":
        return func  # TIR written without blocks, as topi does for scans and sorts.
    # A schedule would change what lies deep in `func`, too, which others hold.
    sch = s_tir.Schedule(s_tir.renew_defs(func.with_attr("global_symbol", "main")))
    apply_default(sch, {func.params[index].name for index in half})
    return sch.mod["main"]


def apply_default(sch: s_tir.Schedule, half: Container[str] = ()) -> None:
    """The default schedule on a PrimFunc `main` of blocks. half: names of what is stored as float16."""
    root = sch.get_sblock("root")
    given = sch.mod["main"].params
    for block in sch.get_child_blocks(root):
        found = sch.get(block)
        is_output = any(region.source.same_as(param) for region in found.writes for param in given)
        if is_output or found.init is not None:
            continue  # An output or a reduction, which TVM refuses, too; its first error costs 0.3 s.
        try:
            sch.compute_inline(block)
        except s_tir.ScheduleError:
            continue
    for block in _blocks(sch, root) if half else ():
        _sum_apart(sch, block, half)
    for block in _blocks(sch, root):
        if sch.get(block).init is not None:
            _part_init(sch, block)


def _blocks(sch: s_tir.Schedule, parent: Any) -> list[Any]:
    children = list(sch.get_child_blocks(parent))
    return [b for child in children for b in (child, *_blocks(sch, child))]


def _sum_apart(sch: s_tir.Schedule, block: Any, half: Container[str]) -> None:
    found = sch.get(block)
    kinds = [v.iter_type == tirx.IterVar.CommReduce for v in found.iter_vars]
    if not any(kinds) or not any(region.source.name in half for region in found.writes):
        return
    loops = sch.get_loops(block)[-len(kinds) :]
    written = sch.cache_write(block, 0, "global")
    spatial = kinds.index(True)
    if spatial and not any(not reduced for reduced in kinds[spatial:]):
        sch.reverse_compute_at(written, loops[spatial - 1])


def _part_init(sch: s_tir.Schedule, block: Any) -> None:
    reduced = {v.var.name for v in sch.get(block).iter_vars if v.iter_type == tirx.IterVar.CommReduce}
    loops = sch.get_loops(block)
    axes = [v.var.name for v in sch.get(block).iter_vars]
    inner = loops[len(loops) - len(axes) :]
    for loop, axis in zip(inner, axes, strict=False):
        if axis in reduced:
            sch.decompose_reduction(block, loop)
            return


_ROOM = 2**20  # more rows than any tile has


def repeat_last(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """A schedule's tiles without the guards of the last, which is whole and computes the last row (or column) again.

    A guard `tile * 4 + row < L` goes where what the block reads and writes in memory can be clamped to L - 1; a tile of
    accumulators, of the scope "local", keeps a place for each row.
    """
    unguarded = tvm_ffi.structural_map(func, [(s_tir.SBlockRealize, _without_guards)])
    tiles: dict[Var, Var] = {}

    def roomy(var: Var) -> Var:
        if not isinstance(var.ty, tirx.buffer.BufferType) or not _is_local(var):
            return var
        if var not in tiles:
            # Lowering shrinks a tile to what is touched, but never asks whether L rows are that many.
            dims = [d if isinstance(d, tirx.IntImm) else tirx.const(_ROOM, "int64") for d in var.ty.shape]
            tiles[var] = tirx.decl_buffer(dims, var.ty.dtype, var.name, scope="local")
        return tiles[var]

    return tvm_ffi.structural_map(unguarded, [(Var, roomy)])


def _without_guards(realize: s_tir.SBlockRealize) -> s_tir.SBlockRealize:
    block = realize.block
    clamped = {}
    for guard in _conjuncts(realize.predicate):
        if isinstance(guard, tirx.IntImm):
            continue
        pairs = zip(block.iter_vars, realize.iter_values, strict=True)
        found = [v.var for v, value in pairs if isinstance(guard, tirx.LT) and tvm_ffi.structural_equal(value, guard.a)]
        if len(found) != 1:
            return realize
        clamped[found[0]] = tirx.min(found[0], guard.b - 1)
    if not clamped:
        return realize

    def clamp(indices: Any) -> list[Any]:
        return [tvm_ffi.structural_map(i, [(Var, lambda v: clamped.get(v, v))]) for i in indices]

    def load(node: TensorLoad) -> TensorLoad:
        return node if _is_local(node.source) else node.source[tuple(clamp(node.indices))]

    def store(node: tirx.BufferStore) -> tirx.BufferStore:
        return node if _is_local(node.buffer) else tirx.BufferStore(node.buffer, node.value, clamp(node.indices))

    body = tvm_ffi.structural_map(block.body, [(TensorLoad, load), (tirx.BufferStore, store)])
    made = s_tir.SBlock(
        block.iter_vars, block.reads, block.writes, block.name_hint, body, block.init, block.alloc_buffers,
        block.match_buffers, block.annotations,
    )  # fmt: skip
    return s_tir.SBlockRealize(realize.iter_values, True, made)


def _conjuncts(predicate: Any) -> list[Any]:
    if isinstance(predicate, tirx.And):
        return [*_conjuncts(predicate.a), *_conjuncts(predicate.b)]
    return [predicate]


def _is_local(buffer: Any) -> bool:
    return str(buffer.ty.storage_scope) == "local"


def to_loops(func: tirx.PrimFunc, name: str) -> tirx.PrimFunc:
    compact = bool(func.attrs["embbert.compact"]) if "embbert.compact" in func.attrs else True
    return _lowering(compact)(IRModule({name: func}))[name]
