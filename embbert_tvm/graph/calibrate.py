"""Calibration: the ranges and histograms of a simplified module's tensors over sample texts.

The statistics hold no text. They are keyed by the names that `names.py` gives, and by the ONNX file they came from.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import tvm
from tvm import IRModule, relax, sym, tirx
from tvm.ir import Var

from embbert_tvm.data.files import write_atomically
from embbert_tvm.errors import InputError
from embbert_tvm.graph import second_moments
from embbert_tvm.graph.dataflow import Dataflow, Expr, dtype, is_tensor, number, shape, substitute
from embbert_tvm.graph.equalize import adjustable, equalize
from embbert_tvm.graph.llvm_run import llvm_machine, target_for
from embbert_tvm.progress import over

VERSION = 1
BINS = 512
QUANTILE = 0.9999


@dataclass(frozen=True)
class Histogram:
    """How a tensor's values spread: `counts` over equal bins of [low, high]. Raises ValueError for what is none."""

    low: float
    high: float
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not -math.inf < self.low <= self.high < math.inf or min(self.counts, default=-1) < 0 or not any(self.counts):
            raise ValueError(f"no histogram: {self}")

    def magnitude(self, quantile: float = QUANTILE) -> float:
        """The smallest bin edge m such that `quantile` of all values lie in [-m, m]."""
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        outer = np.maximum(np.abs(edges[:-1]), np.abs(edges[1:]))
        order = np.argsort(outer)
        mass = np.cumsum(np.asarray(self.counts)[order])
        return float(outer[order][np.searchsorted(mass, quantile * mass[-1])])


def _magnitudes(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes of a histogram's bins, at their middle, and how many values each has."""
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    return np.abs(edges[:-1] + edges[1:]) / 2, np.asarray(histogram.counts, np.float64)


def _least_squares(histogram: Histogram, levels: int) -> float:
    """The range whose rounding and saturation have the least squared error together."""
    sizes, counts = _magnitudes(histogram)
    largest = histogram.magnitude(1.0)
    candidates = largest * np.arange(1, 257) / 256
    saturated = (np.maximum(sizes - candidates[:, None], 0) ** 2 * counts).sum(1)
    rounded = (candidates / levels) ** 2 / 12 * ((sizes <= candidates[:, None]) * counts).sum(1)
    return float(candidates[np.argmin(saturated + rounded)])


def _least_divergence(histogram: Histogram, levels: int) -> float:
    """The range whose steps tell the least of the distribution of magnitudes apart, by Kullback and Leibler; as
    TensorRT's calibration has it. With more steps than bins there is nothing to lose: the largest magnitude."""
    largest = histogram.magnitude(1.0)
    sizes, counts = _magnitudes(histogram)
    bins = len(counts)
    if levels >= bins or largest == 0:
        return largest
    spread = np.histogram(sizes, bins, (0.0, largest), weights=counts)[0]
    best, best_bins = math.inf, bins
    for kept in range(levels + 1, bins + 1, 2):
        clipped = spread[:kept].copy()
        clipped[-1] += spread[kept:].sum()
        step = np.arange(kept) * levels // kept
        there = spread[:kept] > 0
        share = np.bincount(step, spread[:kept], levels) / np.maximum(np.bincount(step, there, levels), 1)
        coarse = np.where(there, share[step], 0.0)
        both = (clipped > 0) & (coarse > 0)
        # What only the clipped one has, its saturated end, counts as if the other had a little there.
        p, q = clipped / clipped.sum(), np.maximum(coarse, 1e-9 * coarse.sum()) / coarse.sum()
        divergence = float((p[both] * np.log(p[both] / q[both])).sum())
        divergence += float((p[~both & (clipped > 0)] * math.log(1e9)).sum())
        if divergence < best:
            best, best_bins = divergence, kept
    return largest * best_bins / bins


# By the names that graph/precision.py knows: the largest magnitude that a tensor of so many steps is to hold.
RANGES: dict[str, Callable[[Histogram, int], float]] = {
    "percentile": lambda histogram, levels: histogram.magnitude(),
    "minmax": lambda histogram, levels: histogram.magnitude(1.0),
    "mse": _least_squares,
    "kl": _least_divergence,
}


@dataclass(frozen=True)
class Calibration:
    """The histograms of a model's float tensors by name. method: how a tensor's range is taken from its own.
    second_moments: E[x x^T] of the rows x of what matrices multiply, by name; none of a model that was trained through
    its rounding, which is to stay as it is. bounds: (2, channels), the least and the largest values by channel that
    `equalize` rewrites the model by, whose tensors all else is of then; none of a model that stays as it is. holds: by
    name, another tensor whose range a tensor is to have at least; no part of what is written."""

    onnx_sha256: str
    examples: int
    tensors: dict[str, Histogram]
    method: Callable[[str], str] = lambda tensor: "percentile"
    second_moments: dict[str, np.ndarray] = field(default_factory=dict, compare=False)
    bounds: dict[str, np.ndarray] = field(default_factory=dict, compare=False)
    holds: dict[str, str] = field(default_factory=dict, compare=False)

    def scale(self, name: str, levels: int = 127) -> float:
        """The real value of one step of a symmetric tensor with so many steps each way. Raises InputError for an
        unknown tensor."""
        if name not in self.tensors:
            raise InputError(
                f"the calibration statistics know no tensor {name}: make them anew with `embbert-tvm export`"
            )
        least = self.scale(self.holds[name], levels) if name in self.holds else 0.0
        return max(least, scale_of(self.tensors[name], self.method(name), levels))


def scale_of(histogram: Histogram, method: str = "percentile", levels: int = 127) -> float:
    """The real value of one step of a symmetric tensor that spreads so, `levels` steps each way."""
    return max(RANGES[method](histogram, levels), 1e-6) / levels


def observed(mod: IRModule) -> list[str]:
    """The names of the float tensors of `main` that statistics are kept of: all but matrices of scores."""
    names = []
    for var, _ in Dataflow(mod).bindings:
        if not is_tensor(var) or dtype(var) != "float32":
            continue
        symbolic = [d for d in shape(var) if not isinstance(d, int)]
        if len(symbolic) <= 1:
            names.append(var.name)
    return names


def runner(mod: IRModule, names: Sequence[str], tokens: int = 0) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A function from ids (1, L) to the values of the tensors `names`, run by TVM's LLVM build.

    tokens: how many it is to run over, which decides whether LLVM optimizes it.
    """
    graph = Dataflow(mod)
    builder = relax.BlockBuilder(IRModule({g: f for g, f in mod.functions.items() if g.name_hint != "main"}))
    with builder.function("main", list(graph.function.params)):
        with builder.dataflow():
            remap: dict[Var, Expr] = {}
            for var, value in graph.bindings:
                remap[var] = builder.emit(substitute(value, remap), name_hint=var.name)
            kept = [remap[v] for v, _ in graph.bindings if v.name in set(names)]
            out = builder.emit_output(relax.Tuple(kept))
        builder.emit_func_output(out)
    machine = llvm_machine(builder.finalize(), target_for(mod, tokens))
    return lambda ids: [t.numpy() for t in machine["main"](tvm.runtime.tensor(ids))]


@dataclass(frozen=True)
class _Ranges:
    """What a first run over texts found: of each observed tensor the least and the largest finite value, (names,), and
    of some both by channel, (2, channels). run: the observed tensors of a text's ids."""

    names: list[str]
    run: Callable[[np.ndarray], Iterable[np.ndarray]]
    low: np.ndarray
    high: np.ndarray
    bounds: dict[str, np.ndarray]


def _ranges(mod: IRModule, batches: Sequence[np.ndarray], by_channel: Sequence[str]) -> _Ranges:
    """Raises InputError where a tensor has no finite value. by_channel: the tensors whose `bounds` are looked for."""
    names = observed(mod)
    # Each text is run twice: for ranges, and for histograms.
    run = runner(mod, names, 2 * sum(ids.size for ids in batches))
    found = _Ranges(names, run, np.full(len(names), np.inf), np.full(len(names), -np.inf), {})
    for ids in over(batches, "calibrating, ranges", "texts"):
        for n, (name, value) in enumerate(zip(names, found.run(ids), strict=True)):
            # A mask may hold -inf, which no scale is to reach.
            finite = value[np.isfinite(value)]
            found.low[n] = min(found.low[n], finite.min(initial=np.inf))
            found.high[n] = max(found.high[n], finite.max(initial=-np.inf))
            if name in by_channel:
                rows = value.reshape(-1, value.shape[-1])
                least, largest = found.bounds.get(name, (rows[0], rows[0]))
                found.bounds[name] = np.stack([np.minimum(least, rows.min(0)), np.maximum(largest, rows.max(0))])
    if none := [name for name, bound in zip(names, found.low, strict=True) if bound == np.inf]:
        raise InputError(f"calibration: {none[0]} holds no finite value: is the model sound?")
    return found


def _check_lengths(mod: IRModule, lengths: Collection[int]) -> None:
    """Raises InputError for a number of tokens of which a tensor would have less than no row: what computes it does not
    look."""
    graph = Dataflow(mod)
    length = shape(graph.function.params[0])[1]
    if isinstance(length, int):
        return
    dims = {str(d): (d, var) for var, _ in graph.bindings if is_tensor(var) for d in shape(var)}
    for count in sorted(lengths):
        analyzer = sym.Analyzer()
        analyzer.bind(length, tirx.const(count, "int64"))
        for dim, var in dims.values():
            made = dim if isinstance(dim, int) else number(analyzer.simplify(dim))
            if made is not None and made < 0:
                raise InputError(
                    f"calibration: of a text of {count} token{'s' * (count != 1)} {var.name} would have {made} "
                    "rows: the model needs longer texts"
                )


def calibrate(
    mod: IRModule, texts: Sequence[Sequence[int]], onnx_sha256: str, with_second_moments: bool = True
) -> Calibration:
    """The statistics of a simplified module over token id sequences. with_second_moments: second moments too.

    Raises InputError where there are no texts, one is too short for the model, or a tensor has no finite value.
    """
    if not texts:
        raise InputError("calibration needs at least one text")
    _check_lengths(mod, {len(ids) for ids in texts})
    batches = [np.asarray([ids], np.int32) for ids in texts]
    seen = _ranges(mod, batches, adjustable(mod) if with_second_moments else ())
    equal = equalize(mod, seen.bounds)
    if equal is not mod:
        mod, bounds = equal, seen.bounds
        seen = _ranges(mod, batches, ())
    else:
        bounds = {}
    names, low, high, run = seen.names, seen.low, seen.high, seen.run
    counts = np.zeros((len(names), BINS), np.int64)
    summed = set(names) & set(second_moments.multiplied(mod)) if with_second_moments else set()
    sums: dict[str, tuple[np.ndarray, int]] = dict.fromkeys(summed, (np.zeros(()), 0))
    for ids in over(batches, "calibrating, histograms", "texts"):
        for n, value in enumerate(run(ids)):
            # In float64: bins of a narrow range are finer than float32 can tell apart.
            counts[n] += np.histogram(value.astype(np.float64), BINS, (low[n], high[n]))[0]
            if names[n] in sums:
                rows = value.reshape(-1, value.shape[-1]).astype(np.float64)
                total, count = sums[names[n]]
                sums[names[n]] = total + rows.T @ rows, count + len(rows)
    tensors = {
        name: Histogram(float(low[n]), float(high[n]), tuple(counts[n].tolist())) for n, name in enumerate(names)
    }
    found = {name: sums[name][0] / sums[name][1] for name in names if name in sums}
    return Calibration(onnx_sha256, len(texts), tensors, second_moments=found, bounds=bounds)


def sha256(path: Path) -> str:
    """The hash of an ONNX file and of the data that lie beside it. Raises InputError where some are missing."""
    content = path.read_bytes()
    digest = hashlib.sha256(content)
    if b"external_data" in content or b"location" in content:
        model = onnx.load(path, load_external_data=False)
        for name in sorted(file for tensor in model.graph.initializer for file in _data_files(tensor)):
            try:
                digest.update((path.parent / name).read_bytes())
            except OSError as error:
                raise InputError(f"{path}: its data {name} cannot be read ({error.strerror})") from None
    return digest.hexdigest()


def _data_files(tensor: onnx.TensorProto) -> set[str]:
    external = tensor.data_location == onnx.TensorProto.EXTERNAL
    return {e.value for e in tensor.external_data if e.key == "location"} if external else set()


def save_calibration(calibration: Calibration, path: Path) -> None:
    content = {
        "version": VERSION,
        "onnx_sha256": calibration.onnx_sha256,
        "examples": calibration.examples,
        "tensors": {
            name: {"low": h.low, "high": h.high, "counts": list(h.counts)} for name, h in calibration.tensors.items()
        },
        "moments": {name: second_moments.pack(moment) for name, moment in calibration.second_moments.items()},
    }
    if calibration.bounds:
        content["bounds"] = {name: bounds.tolist() for name, bounds in calibration.bounds.items()}
    write_atomically(path, (json.dumps(content, separators=(",", ":")) + "\n").encode())


def load_calibration(path: Path, onnx_sha256: str) -> Calibration:
    """The statistics at `path`. Raises InputError where they are malformed or of another ONNX file."""
    again = "make them anew with `embbert-tvm export` or give --calibration TSV"
    try:
        content = json.loads(path.read_text())
        tensors = {
            name: Histogram(float(h["low"]), float(h["high"]), tuple(int(c) for c in h["counts"]))
            for name, h in content["tensors"].items()
        }
        found = {name: second_moments.unpack(packed) for name, packed in content.get("moments", {}).items()}
        bounds = {name: np.array(rows, np.float32) for name, rows in content.get("bounds", {}).items()}
        if not all(b.ndim == 2 and len(b) == 2 and b.size and np.isfinite(b).all() for b in bounds.values()):
            raise ValueError("no bounds")
        sha, examples = str(content["onnx_sha256"]), int(content["examples"])
        calibration = Calibration(sha, examples, tensors, second_moments=found, bounds=bounds)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {again}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise InputError(f"{path} holds no calibration statistics: {again}") from None
    if content.get("version") != VERSION or calibration.onnx_sha256 != onnx_sha256:
        raise InputError(f"{path} belongs to another model.onnx or version: {again}")
    return calibration
