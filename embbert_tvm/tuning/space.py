"""Design spaces for MetaSchedule: what can be decided of a kernel of ours, and schedules of every other operator."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from tvm import s_tir, tirx
from tvm.error import InternalError
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms

from embbert_tvm.codegen.c_function import c_function
from embbert_tvm.codegen.lower import apply_default, schedule, to_loops
from embbert_tvm.graph.tvm_workarounds import without_gpu_intrinsics
from embbert_tvm.kernels.choices import ALL_LOOPS, PREFIX, UNROLLS
from embbert_tvm.tuning.task import is_ours

without_gpu_intrinsics()

_TILES = (1, 2, 3, 4, 5, 6, 8)
# A tile's accumulators and what is loaded for them stay in the registers of a Cortex-M's FPU.
_MOST_SUMS = 24


def has_space(func: tirx.PrimFunc) -> bool:
    """Whether there is anything to choose of a kernel; TIR without blocks stays as it is written."""
    body = func.body
    return isinstance(body, s_tir.SBlockRealize) and (is_ours(func) or body.block.name_hint == "root")


def space(func: tirx.PrimFunc) -> ms.SpaceGenerator:
    """The design space of a kernel of kernels/, or of what TVM makes of an operator."""
    return ms.space_generator.ScheduleFn(
        _choices(func) if is_ours(func) else _designs,
        sch_rules=[],
        postprocs=[],
        mutator_probs={MutateDecision(): 1.0},
    )


def _sample(sch: s_tir.Schedule, values: Sequence[int]):
    return sch.sample_categorical(list(values), [1.0 / len(values)] * len(values))


def _choices(func: tirx.PrimFunc):
    found = c_function(to_loops(schedule(func), "kernel"), "kernel").choices

    def apply(sch: s_tir.Schedule) -> s_tir.Schedule:
        root = sch.get_sblock(func.body.block.name_hint)
        for choice in found:
            sch.annotate(root, PREFIX + choice.key, _sample(sch, choice.values))
        return sch

    return apply


def _designs(sch: s_tir.Schedule) -> list[s_tir.Schedule]:
    """Sketches of an operator: as by default, its rows one after the other through all its stages, and for a product
    tiles of accumulators in registers, rows or columns outside."""
    made = []
    for design in (_default, _by_rows, _tiles_by_rows, _tiles_by_columns):
        trial = sch.copy()
        try:
            design(trial)
        except (s_tir.ScheduleError, InternalError):  # the second from TVM's analysis of what it inlines
            continue
        trial.annotate(trial.get_sblock("root"), PREFIX + ALL_LOOPS, _sample(trial, UNROLLS))
        made.append(trial)
    return made


def _default(sch: s_tir.Schedule) -> None:
    apply_default(sch)


class _Unsupported(s_tir.ScheduleError):
    """A design that does not suit an operator."""


def _is_reduction(sch: s_tir.Schedule, block) -> bool:
    return any(v.iter_type == tirx.IterVar.CommReduce for v in sch.get(block).iter_vars)


def _stages(sch: s_tir.Schedule) -> list:
    return list(sch.get_child_blocks(sch.get_sblock("root")))


def _by_rows(sch: s_tir.Schedule) -> None:
    stages = _stages(sch)
    if len(stages) < 2:
        raise _Unsupported("one stage")
    for stage in stages[:-1]:
        if not _is_reduction(sch, stage) and len(sch.get_consumers(stage)) == 1:
            try:
                sch.compute_inline(stage)
            except s_tir.ScheduleError:
                continue
    *before, last = _stages(sch)
    rows = next((loop for loop in sch.get_loops(last) if not _is_one(sch.get(loop).extent)), None)
    if rows is None:
        raise _Unsupported("one element")
    for stage in reversed(before):
        sch.compute_at(stage, rows)
    for stage in _stages_below(sch):
        if sch.get(stage).init is not None:
            loops = sch.get_loops(stage)
            sch.decompose_reduction(stage, loops[len(loops) - _reduced(sch, stage)])


def _stages_below(sch: s_tir.Schedule) -> list:
    return list(sch.get_child_blocks(sch.get_sblock("root")))


def _reduced(sch: s_tir.Schedule, block) -> int:
    return sum(v.iter_type == tirx.IterVar.CommReduce for v in sch.get(block).iter_vars)


def _is_one(extent) -> bool:
    return isinstance(extent, tirx.IntImm) and int(extent) == 1


def _tiles_by_rows(sch: s_tir.Schedule) -> None:
    _tiles(sch, columns_outside=False)


def _tiles_by_columns(sch: s_tir.Schedule) -> None:
    _tiles(sch, columns_outside=True)


def _tiles(sch: s_tir.Schedule, columns_outside: bool) -> None:
    stages = _stages(sch)
    products = [s for s in stages if _is_reduction(sch, s)]
    if len(products) != 1:
        raise _Unsupported("no product, or several")
    product = products[0]
    at = next(i for i, s in enumerate(stages) if sch.get(s).name_hint == sch.get(product).name_hint)
    for stage in stages[:at]:
        sch.compute_inline(stage)
    for stage in stages[at + 1 : -1]:
        sch.compute_inline(stage)
    kinds = [v.iter_type for v in sch.get(product).iter_vars]
    loops = sch.get_loops(product)
    if len(loops) != len(kinds) or kinds.count(tirx.IterVar.CommReduce) != 1 or kinds[-1] != tirx.IterVar.CommReduce:
        raise _Unsupported("no plain product")
    spatial = [loop for loop in loops[:-1] if not _is_one(sch.get(loop).extent)]
    units = [loop for loop in loops[:-1] if _is_one(sch.get(loop).extent)]
    if not 1 <= len(spatial) <= 2:
        raise _Unsupported("a product of more than two dimensions")
    written = sch.cache_write(product, 0, "local")
    outer, inner = [], []
    for loop in spatial:
        extent = sch.get(loop).extent
        sizes = [t for t in _TILES if not isinstance(extent, tirx.IntImm) or int(extent) % t == 0]
        out, within = sch.split(loop, [None, _sample(sch, sizes)])
        outer.append(out)
        inner.append(within)
    order = list(reversed(outer)) if columns_outside and len(outer) == 2 else outer
    sch.reorder(*units, *order, loops[-1], *inner)
    sch.reverse_compute_at(written, order[-1], preserve_unit_loops=True)
    if len(stages) > at + 1:
        sch.reverse_compute_inline(stages[-1])
    for loop in (*inner, *sch.get_loops(written)[-len(inner) :]):
        sch.unroll(loop)
    start = sch.decompose_reduction(product, loops[-1])
    for loop in sch.get_loops(start)[-len(inner) :]:
        sch.unroll(loop)


def decisions(trace: s_tir.Trace) -> list[int]:
    """The values that a trace's sampling instructions took, in order."""
    found = []
    for inst in trace.insts:
        if inst.kind.name == "SampleCategorical":
            candidates = [int(c) for c in inst.attrs[0]]
            found.append(candidates[int(trace.get_decision(inst) or 0)])
    return found


@derived_object
class MutateDecision(ms.mutator.PyMutator):
    """Draws one or two of a trace's categorical decisions anew."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.random = random.Random(seed)

    def _initialize_with_tune_context(self, context: ms.TuneContext) -> None:
        pass

    def apply(self, trace: s_tir.Trace, _: int = -1) -> s_tir.Trace | None:
        free = [i for i in trace.insts if i.kind.name == "SampleCategorical" and len(i.attrs[0]) > 1]
        if not free:
            return None
        for inst in self.random.sample(free, min(len(free), self.random.choice((1, 1, 2)))):
            value = self.random.randrange(len(inst.attrs[0]))
            trace = trace.with_decision(inst, value, True)
        return trace

    def clone(self) -> MutateDecision:
        return MutateDecision(self.random.randrange(2**31))


FEATURES = 48


def features(trace: s_tir.Trace) -> np.ndarray:
    """What the cost model knows of a candidate, float32 (FEATURES,): which sketch it is of, and its decisions. What
    MetaSchedule's own extractor reads of loops says nothing of the choices in the C of a kernel."""
    values = decisions(trace)[: FEATURES - 2]
    row = np.zeros(FEATURES, np.float32)
    row[0], row[1] = len(trace.insts), np.prod(values[:2]) if len(values) > 1 else 0
    row[2 : 2 + len(values)] = values
    return row


def fits(func: tirx.PrimFunc, trace: s_tir.Trace) -> bool:
    """Whether a candidate of a kernel is worth a trial: a tile with more sums than registers takes C compilers longest
    and is never fast."""
    if is_ours(func):
        return True
    *tile, _ = decisions(trace)
    return np.prod(tile) <= _MOST_SUMS
