"""EmbBERT as it computes once it is compiled to integers, differentiable: for training through the rounding.

The forward pass follows docs/quantization.md: weights and tables in the formats of a precision (graph/precision.py,
graph/quantize/low_bits.py) with the scales of their inputs folded in before they are rounded, int8 activations of one
calibrated scale each, the exp and SiLU tables, RMSNorm from the accumulators, the last layer's first row alone.
Accumulators are whole numbers that float32 holds exactly; what is left is a rounding that falls the other way now and
then, where the integers' multipliers are rounded themselves. The backward pass takes every rounding for the identity,
every clamp for a stop, and the exp table for the softmax.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embbert_tvm.data.tokenizer import PAD, SEP
from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import BINS, Histogram, scale_of
from embbert_tvm.graph.precision import named_plan
from embbert_tvm.graph.quantize.low_bits import fit_scales, spread
from embbert_tvm.kernels.attention import ENTRIES, RANGE, exp_table
from embbert_tvm.kernels.epilogues import NORM_BITS
from embbert_tvm.kernels.low_bits import COMPRESSED, FORMATS, WeightFormat, rounded_to
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.models.embbert import Block, EmbBert

_HEADROOM = 2.01  # a multiplier is below one half
_FAR = 15  # as far as attention's `ratio` reaches
_BATCH = 32

See = Callable[[str, Tensor], None]


@dataclass(frozen=True)
class Steps:
    """Whole numbers worth `value * scale`; one scale, or one a channel."""

    value: Tensor
    scale: Tensor | float


class QuantizedEmbBert(EmbBert):
    """An EmbBERT that computes in the integers that it will be compiled to; its parameters are the model's own.

    Its logits are those of `compile --precision PRECISION`. The activations' scales, calibrated on `texts` (token ids),
    and those of the blocks of weights of fewer than 8 bits are found anew whenever the model is set to train or to
    evaluate, and so follow the weights. Raises InputError for a precision that is no integers'.
    """

    def __init__(self, model: EmbBert, texts: Sequence[Sequence[int]], precision: str = "int8") -> None:
        TextClassifier.__init__(self, model.config, model.classes)
        self.embedder, self.blocks, self.head = model.embedder, model.blocks, model.head
        plan = named_plan(precision)
        if plan.scheme("").activations != "int8":
            raise InputError(f"training rounds to int8 rows, which precision {precision} has none of")
        self.form, self.tables = FORMATS[plan.weights("")], FORMATS[plan.tables("", "")]
        self._fits: dict[str, tuple[Tensor, Tensor]] = {}
        self._texts = list(_batches(texts))
        self.scales: dict[str, float] = {}
        self._row_scale = 1.0
        self.train(model.training)

    def train(self, mode: bool = True) -> QuantizedEmbBert:
        super().train(mode)
        self.scales = self._calibrate()
        self._fits.clear()
        return self

    def features(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            mask = torch.ones_like(ids, dtype=torch.bool)
        x = self._embed(ids, mask)
        for i, block in enumerate(self.blocks):
            x = self._block(block, i, self._norm(block, i, x), mask)
        row = self._requantize(x, "x")
        self._row_scale = row.scale
        return (row.value * row.scale)[:, 0]

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B, classes) of the features that were computed last."""
        row = Steps(_round(features / self._row_scale), self._row_scale)
        logits = self._linear("head", row, self.head.weight, self.head.bias)
        return logits.value * logits.scale

    def _embed(self, ids: Tensor, mask: Tensor) -> Steps:
        embedder = self.embedder
        token = self._table("token", embedder.token.weight)
        position = self._table("position", embedder.position.weight)
        maps = [embedder.token_map.weight * token.scale, embedder.position_map.weight * position.scale]
        weight = self._weight("maps", torch.cat(maps, 1))
        rows = torch.cat([token.value[ids], position.value[: ids.shape[1]].expand(*ids.shape, -1)], -1)
        lookup = _round_even(embedder.segment.weight / weight.scale)
        if self.form.stored or self.tables.stored:
            lookup = _short(lookup)
        return Steps(rows @ weight.value.t() + lookup[_segments(ids, mask)], weight.scale)

    def _norm(self, block: Block, i: int, x: Steps) -> Steps:
        gain, n = block.norm.weight, block.norm.weight.numel()
        step = _HEADROOM * x.scale.max()
        t = _round(x.value * (x.scale / step))
        epsilon = max(round(n * block.norm.eps / float(step) ** 2), 1)
        unit = t * (t.square().sum(-1, keepdim=True) + epsilon).rsqrt()
        finest = _HEADROOM * float(gain.detach().abs().max()) * math.sqrt(n) / 2.0**NORM_BITS
        scale = max(self.scales[f"{i}.y"], finest)
        return Steps(_saturate(unit * (gain * (math.sqrt(n) / scale))), scale)

    def _block(self, block: Block, i: int, y: Steps, mask: Tensor) -> Steps:
        last = i == len(self.blocks) - 1
        rows = Steps(y.value[:, :1], y.scale) if last else y
        context = self._attend(block, i, rows, y, mask)
        silu = self._convolve(block, i, rows, last)
        l1, l2 = block._weights() if block.weighted else (1.0, -1.0)
        parts = [block.attention_out.weight * (l1 * context.scale), block.conv_out.weight * (-l2 * silu.scale)]
        weight = self._weight(f"{i}.out", torch.cat(parts, 1))
        bias = l1 * block.attention_out.bias - l2 * block.conv_out.bias
        return self._product(torch.cat([context.value, silu.value], -1), weight, bias)

    def _attend(self, block: Block, i: int, rows: Steps, y: Steps, mask: Tensor) -> Steps:
        root = math.sqrt(y.value.shape[-1])
        made = self._linear(f"{i}.query", rows, block.query.weight / root, block.query.bias / root)
        query = self._requantize(made, f"{i}.query")
        step = query.scale * y.scale
        if step * (ENTRIES - 1) / RANGE >= 0.5:
            raise InputError(f"block {i}: the scores are too large for int8 (one step of them is {step:.3g})")
        score = (query.value @ y.value.transpose(1, 2)).masked_fill(~mask[:, None], -math.inf)
        weight = block.dropout(_softmax(score, step))
        scale = max(min(self.scales[f"{i}.context"], y.scale), y.scale / _FAR)
        return Steps(_saturate((weight @ y.value) * (y.scale / scale)), scale)

    def _convolve(self, block: Block, i: int, rows: Steps, last: bool) -> Steps:
        # The first row sees one sample: compiled, the filters have one tap there.
        taps = block.conv.weight[:, :, -1:] if last else block.conv.weight
        weight = self._weight(f"{i}.conv", taps.flatten(1) * rows.scale)
        samples = F.pad(rows.value.transpose(1, 2), (taps.shape[2] - 1, 0))
        acc = F.conv1d(samples, weight.value[:, None], groups=block.conv.groups).transpose(1, 2)
        acc = acc + self._bias(block.conv.bias, weight)
        inner = self._requantize(Steps(acc, weight.scale), f"{i}.filtered")
        scale = self.scales[f"{i}.silu"]
        return Steps(torch.clamp(_round_even(F.silu(inner.value * inner.scale) / scale), -127, 127), scale)

    def _linear(self, name: str, x: Steps, weight: Tensor, bias: Tensor) -> Steps:
        return self._product(x.value, self._weight(name, weight * x.scale), bias)

    def _product(self, x: Tensor, weight: Steps, bias: Tensor) -> Steps:
        return Steps(x @ weight.value.t() + self._bias(bias, weight), weight.scale)

    def _bias(self, bias: Tensor, weight: Steps) -> Tensor:
        steps = _round_even(bias / weight.scale)
        return _short(steps) if self.form.stored else steps

    def _weight(self, name: str, weight: Tensor) -> Steps:
        """weight (n, k) in steps of a scale a row."""
        if not self.form.stored:
            return per_channel(weight)
        return self._levels(name, weight, self.form.within(weight.shape[1]), shared=False)

    def _table(self, name: str, table: Tensor) -> Steps:
        """A table in steps of one scale."""
        if not self.tables.stored:
            return per_tensor(table)
        found = self._levels(name, table, self.tables, shared=True)
        return Steps(found.value, float(found.scale[0]))

    def _levels(self, name: str, weight: Tensor, form: WeightFormat, shared: bool) -> Steps:
        n, k = weight.shape
        if name not in self._fits:
            scale, multipliers = fit_scales(weight.detach().double().cpu().numpy(), form, shared=shared)
            factor = spread(multipliers, n, k, form.block or k).astype(np.float32)
            self._fits[name] = tuple(torch.from_numpy(x).to(weight) for x in (scale, factor))
        scale, factor = self._fits[name]
        code = torch.clamp((weight / (scale[:, None] * factor) - form.first) / form.step, 0, form.count - 1)
        return Steps((form.first + form.step * _round_even(code)) * factor, scale)

    def _requantize(self, x: Steps, name: str) -> Steps:
        scale = max(self.scales[name], _HEADROOM * float(x.scale.detach().max()))
        return Steps(_saturate(x.value * (x.scale / scale)), scale)

    def _calibrate(self) -> dict[str, float]:
        """The scale of each activation over the texts, as graph/calibrate.py takes it from the float model."""
        ends: dict[str, tuple[float, float]] = {}
        counts: dict[str, np.ndarray] = {}

        def see_ends(name: str, value: Tensor) -> None:
            low, high = ends.get(name, (math.inf, -math.inf))
            ends[name] = (min(low, float(value.min())), max(high, float(value.max())))

        def see_counts(name: str, value: Tensor) -> None:
            found = np.histogram(value.double().cpu().numpy(), BINS, ends[name])[0]
            counts[name] = counts.get(name, 0) + found

        with torch.no_grad():
            for see in (see_ends, see_counts):
                for ids, mask in self._texts:
                    self._float(ids, mask, see)
        return {name: scale_of(Histogram(*ends[name], tuple(counts[name].tolist()))) for name in ends}

    def _float(self, ids: Tensor, mask: Tensor, see: See) -> None:
        """The model in float, its activations given to `see`, padding left out."""
        x = self.embedder(ids, mask)
        for i, block in enumerate(self.blocks):
            last = i == len(self.blocks) - 1
            y = block.norm(x)
            see(f"{i}.y", y[mask])
            rows, kept = (y[:, :1], mask[:, :1]) if last else (y, mask)
            query = block.query(rows) / math.sqrt(y.shape[-1])
            see(f"{i}.query", query[kept])
            score = (query @ y.transpose(1, 2)).masked_fill(~mask[:, None], -math.inf)
            context = score.softmax(-1) @ y
            see(f"{i}.context", context[kept])
            filtered = block.conv(F.pad(rows.transpose(1, 2), (block.left, 0))).transpose(1, 2)
            see(f"{i}.filtered", filtered[kept])
            silu = F.silu(filtered)
            see(f"{i}.silu", silu[kept])
            l1, l2 = block._weights() if block.weighted else (1.0, -1.0)
            x = l1 * block.attention_out(context) - l2 * block.conv_out(silu)
        see("x", x)


def per_channel(weight: Tensor) -> Steps:
    """weight (n, k) in int8 steps of each row's largest magnitude / 127; scale (n,)."""
    peak = weight.detach().abs().amax(1)
    scale = torch.where(peak > 0, peak, 1.0) / 127
    return Steps(torch.clamp(_round_even(weight / scale[:, None]), -127, 127), scale)


def per_tensor(table: Tensor) -> Steps:
    """A table in int8 steps of its largest magnitude / 127."""
    peak = float(table.detach().abs().max())
    scale = (peak if peak > 0 else 1.0) / 127
    return Steps(torch.clamp(_round_even(table / scale), -127, 127), scale)


def _softmax(score: Tensor, step: float) -> Tensor:
    """Weights (..., L) that the exp table gives scores in steps, with the softmax's gradient."""
    soft = (score * step).softmax(-1)
    with torch.no_grad():
        below = score.amax(-1, keepdim=True) - score
        level = torch.clamp(torch.floor(below * (step * (ENTRIES - 1) / RANGE) + 0.5), max=ENTRIES - 1)
        hard = torch.from_numpy(exp_table()).to(score.device, score.dtype)[level.long()]
        hard = hard / hard.sum(-1, keepdim=True)
    return soft + (hard - soft).detach()


def _round(x: Tensor) -> Tensor:
    """Round to the nearest integer, ties upward as `multiply_high` has them; the gradient passes."""
    return x + (torch.floor(x + 0.5) - x).detach()


def _round_even(x: Tensor) -> Tensor:
    """Round to the nearest integer, ties to even as constants are rounded; the gradient passes."""
    return x + (torch.round(x) - x).detach()


def _short(steps: Tensor) -> Tensor:
    """Whole numbers as int8 holds them with one shift for all; the gradient passes."""
    rounded = torch.from_numpy(rounded_to(steps.detach().cpu().numpy().astype(np.int32), COMPRESSED[0])).to(steps)
    return steps + (rounded - steps).detach()


def _saturate(x: Tensor) -> Tensor:
    return torch.clamp(_round(x), -128, 127)


def _segments(ids: Tensor, mask: Tensor) -> Tensor:
    return (1 + ((ids == SEP).to(torch.int64).cumsum(1) > 0).to(torch.int64)) * mask


def _batches(texts: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
    """ids and mask of texts of like length."""
    texts = sorted(texts, key=len)
    for start in range(0, len(texts), _BATCH):
        rows = [torch.tensor(list(ids)) for ids in texts[start : start + _BATCH]]
        ids, ones = (
            torch.nn.utils.rnn.pad_sequence(part, batch_first=True, padding_value=PAD)
            for part in (rows, [torch.ones_like(row) for row in rows])
        )
        yield ids, ones.bool()
