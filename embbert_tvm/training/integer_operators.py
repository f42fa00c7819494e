"""Forward passes of the operators of graph/quantize that are no sums: attention, pooling, gates, the selective scan."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embbert_tvm.errors import InputError
from embbert_tvm.graph.dataflow import Expr, shape
from embbert_tvm.graph.distances import Relative
from embbert_tvm.graph.quantize import attention, gate, layout, pool, pool_rows, row_slice, selective_scan
from embbert_tvm.kernels import integer_scan
from embbert_tvm.kernels.attention import ENTRIES, RANGE, exp_table
from embbert_tvm.kernels.fixed_point import rescaled
from embbert_tvm.kernels.gate import GATE_BITS
from embbert_tvm.kernels.pool import BITS, SQUARE_BITS
from embbert_tvm.kernels.pool_rows import BITS as ROWS_BITS
from embbert_tvm.training.graph_integers import Forward, Run
from embbert_tvm.training.graph_operators import scan
from embbert_tvm.training.integer_products import FUNCTIONS, HEADROOM
from embbert_tvm.training.rounding import ScaledIntegers, clamp_to, passing, round_up, saturated

_FAR = 15  # as far as attention's `ratio` reaches


def _attended(run: Run, expr: Expr, found: attention.Match) -> ScaledIntegers:
    query, key, value = run.quantized(found.query), run.quantized(found.key), run.quantized(found.value)
    step = query.scale * key.scale
    if step * (ENTRIES - 1) / RANGE >= 0.5:
        raise InputError(f"{expr.name}: the scores are too large for int8 (one step of them is {step:.3g})")
    score = query.value @ key.value.t()
    if found.distances is not None:
        most, (queries, keys) = (len(found.distances) + 1) // 2, score.shape
        at = torch.arange(keys)[None] - torch.arange(queries)[:, None] + (most - 1)
        score = score + round_up(run.of_match(expr, "distances", found.distances)[at] / step)
    if found.relative is not None:
        score = score + _by_place(run, expr, found.relative, query, key)
    weight = F.dropout(_softmax(score, step), run.dropout)
    scale = max(min(run.scale(expr.name), value.scale), value.scale / _FAR)
    return ScaledIntegers(saturated((weight @ value.value) * (value.scale / scale)), scale)


def _by_place(run: Run, expr: Expr, found: Relative, query: ScaledIntegers, key: ScaledIntegers) -> Tensor:
    """What scores (queries, keys) have of their queries' and of their keys' products with what stands for places."""
    of_keys = round_up(run.of_match(expr, "of_keys", found.of_keys) / key.scale)
    of_queries = round_up(run.of_match(expr, "of_queries", found.of_queries) / query.scale)
    queries, keys = len(query.value), len(key.value)
    apart = np.arange(keys)[None] - np.arange(queries)[:, None] + (found.most - 1)
    at = torch.from_numpy(found.places[apart])
    behind = (query.value @ of_keys.t()).gather(1, at)
    return behind + (key.value @ of_queries.t()).gather(1, at.t()).t()


def _softmax(score: Tensor, step: float) -> Tensor:
    """Weights (..., L) that the exp table gives scores in steps, with the softmax's gradient."""
    soft = (score * step).softmax(-1)
    below = (score.amax(-1, keepdim=True) - score).detach()
    level = torch.clamp(torch.floor(below * (step * (ENTRIES - 1) / RANGE) + 0.5), max=ENTRIES - 1)
    hard = torch.from_numpy(exp_table()).to(score.dtype)[level.long()]
    return passing(hard / hard.sum(-1, keepdim=True), soft)


def _pooled(run: Run, expr: Expr, found: pool.Match) -> ScaledIntegers:
    return _pooled_to(run, run.scale(expr.name), 128, found)


def _pooled_wide(run: Run, expr: Expr, found: pool.Match) -> ScaledIntegers:
    return _pooled_to(run, run.wide_scale(expr.name), 2**15, found)


def _pooled_to(run: Run, wanted: float, most: int, found: pool.Match) -> ScaledIntegers:
    """A row in steps of `wanted` or coarser, from -most to most - 1."""
    wide = found.x in run.q.streams
    x = run.wide(found.x) if wide else run.quantized(found.x)
    scale = rescaled(x.scale, wanted, BITS)[1]
    if found.kind == "mean":
        level = x.value.mean(0, keepdim=True)
    elif found.kind == "max":
        level = x.value.amax(0, keepdim=True)
    elif found.kind == "last":
        level = x.value[-1:]
    else:
        fine = 1.0 if wide else 2.0**SQUARE_BITS
        epsilon = round(found.epsilon / x.scale**2 * fine)
        square = x.value.square().mean(0, keepdim=True) * fine
        whole = torch.trunc(square.detach()) + epsilon
        level = passing(torch.floor(whole.sqrt()), (square + max(epsilon, 1e-6)).sqrt()) / fine**0.5
    return ScaledIntegers(clamp_to(round_up(level * (x.scale / scale)), most), scale)


def _pooled_rows(run: Run, expr: Expr, found: pool_rows.Match) -> ScaledIntegers:
    x = run.quantized(found.x)
    scale = rescaled(x.scale / found.size, run.scale(expr.name), ROWS_BITS)[1]
    level = F.avg_pool1d(x.value.t()[None], found.size, found.stride, 0, True, False)[0].t()
    return ScaledIntegers(saturated(level * (x.scale / scale)), scale)


def _gated(run: Run, expr: Expr, found: gate.Match) -> ScaledIntegers:
    a, b = run.quantized(found.a), run.quantized(found.b)
    worth = a.scale * b.scale
    scale = rescaled(worth, run.scale(expr.name), GATE_BITS)[1]
    count = 1 if isinstance(shape(expr)[-2], int) else run.length
    return ScaledIntegers(saturated(a.value[:count] * b.value[:count] * (worth / scale)), scale)


def _scanned(run: Run, expr: Expr, found: selective_scan.Match) -> ScaledIntegers:
    """The state is kept in float32: what the integers round of it is below a millionth of it."""
    u, step, into, out_of = (run.quantized(x) for x in (found.u, found.step, found.into, found.out_of))
    rate = run.of_match(expr, "rate", found.rate)
    code = (np.arange(256) - 128) * step.scale
    by_code = FUNCTIONS[found.function](torch.from_numpy(code)).numpy()
    tables = selective_scan.tabulate(by_code, rate.detach().double().numpy())
    size = FUNCTIONS[found.function](step.value * step.scale)
    at = (step.value.detach() + 128).long()
    sizes, log_steps = (torch.from_numpy(x.astype(np.int64)) for x in (tables.size, tables.log_step))
    size = passing(sizes[at].to(size.dtype) * tables.scale, size)
    log_decay = torch.from_numpy(tables.log_decay.astype(np.int64))
    kept = torch.exp(size[..., None] * rate)
    decay = torch.from_numpy(integer_scan.decay_table().astype(np.float32)) / 2.0**31
    kept = passing(decay[log_steps[at][..., None] + log_decay], kept)
    real = [x.value * x.scale for x in (u, into, out_of)]
    total = scan(kept, (size * real[0])[..., None] * real[1][:, None], real[2])
    skip = run.of_match(expr, "skip", found.skip)
    total = total + skip * real[0]
    worth = tables.scale * u.scale * 2.0 ** (32 - integer_scan.INPUT_BITS) * into.scale * out_of.scale
    bits = selective_scan.read_bits(skip.detach().double().numpy() * u.scale, worth, rate.shape[1])
    scale = max(run.scale(expr.name), HEADROOM * worth * 2.0 ** (32 - bits))
    return ScaledIntegers(saturated(total / scale), scale)


def _sliced(run: Run, expr: Expr, found: row_slice.Match) -> ScaledIntegers:
    whole = run.quantized(found.tensor)
    return ScaledIntegers(whole.value[found.row : found.row + 1], whole.scale)


def _sliced_wide(run: Run, expr: Expr, found: row_slice.Match) -> ScaledIntegers:
    whole = run.wide(found.tensor)
    return ScaledIntegers(whole.value[found.row : found.row + 1], whole.scale)


def _laid_out(run: Run, expr: Expr, found: layout.Match) -> ScaledIntegers:
    return run.quantized(found.tensor)


FORWARD = {
    "attention": Forward(_attended),
    "pool": Forward(_pooled, _pooled_wide),
    "pool_rows": Forward(_pooled_rows),
    "gate": Forward(_gated),
    "selective_scan": Forward(_scanned),
    "row_slice": Forward(_sliced, _sliced_wide),
    "layout": Forward(_laid_out),
}
