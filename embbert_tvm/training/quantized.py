"""EmbBERT as it computes once it is compiled to integers, differentiable: for training through the rounding.

The forward pass follows docs/quantization.md: per-channel symmetric weights with the scales of their inputs folded in
before they are rounded, int8 activations of one calibrated scale each, the exp and SiLU tables, RMSNorm from the
accumulators, the last layer's first row alone. Accumulators are whole numbers that float32 holds exactly; what is left
is a rounding that falls the other way now and then, where the integers' multipliers are rounded themselves. The
backward pass takes every rounding for the identity, every clamp for a stop, and the exp table for the softmax.
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
from embbert_tvm.kernels.attention import ENTRIES, RANGE, exp_table
from embbert_tvm.kernels.epilogues import NORM_BITS
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

    With weight_bits 8 its logits are those of `compile --precision int8`. Fewer bits round the weights of the linear
    layers and convolutions to 2^(bits-1) - 1 levels each way; the tables stay int8. The activations' scales are
    calibrated on `texts` (token ids) whenever the model is set to train or to evaluate, and so follow the weights.
    """

    def __init__(self, model: EmbBert, texts: Sequence[Sequence[int]], weight_bits: int = 8) -> None:
        TextClassifier.__init__(self, model.config, model.classes)
        self.embedder, self.blocks, self.head = model.embedder, model.blocks, model.head
        self.weight_bits = weight_bits
        self._texts = list(_batches(texts))
        self.scales: dict[str, float] = {}
        self._row_scale = 1.0
        self.train(model.training)

    def train(self, mode: bool = True) -> QuantizedEmbBert:
        super().train(mode)
        self.scales = self._calibrate()
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
        logits = self._linear(row, self.head.weight, self.head.bias)
        return logits.value * logits.scale

    def _embed(self, ids: Tensor, mask: Tensor) -> Steps:
        embedder = self.embedder
        token, position = per_tensor(embedder.token.weight), per_tensor(embedder.position.weight)
        maps = [embedder.token_map.weight * token.scale, embedder.position_map.weight * position.scale]
        weight = per_channel(torch.cat(maps, 1), self.weight_bits)
        rows = torch.cat([token.value[ids], position.value[: ids.shape[1]].expand(*ids.shape, -1)], -1)
        lookup = _round_even(embedder.segment.weight / weight.scale)
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
        weight = per_channel(torch.cat(parts, 1), self.weight_bits)
        bias = l1 * block.attention_out.bias - l2 * block.conv_out.bias
        return _product(torch.cat([context.value, silu.value], -1), weight, bias)

    def _attend(self, block: Block, i: int, rows: Steps, y: Steps, mask: Tensor) -> Steps:
        root = math.sqrt(y.value.shape[-1])
        made = self._linear(rows, block.query.weight / root, block.query.bias / root)
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
        weight = per_channel(taps.flatten(1) * rows.scale, self.weight_bits)
        samples = F.pad(rows.value.transpose(1, 2), (taps.shape[2] - 1, 0))
        acc = F.conv1d(samples, weight.value[:, None], groups=block.conv.groups).transpose(1, 2)
        acc = acc + _round_even(block.conv.bias / weight.scale)
        inner = self._requantize(Steps(acc, weight.scale), f"{i}.filtered")
        scale = self.scales[f"{i}.silu"]
        return Steps(torch.clamp(_round_even(F.silu(inner.value * inner.scale) / scale), -127, 127), scale)

    def _linear(self, x: Steps, weight: Tensor, bias: Tensor) -> Steps:
        return _product(x.value, per_channel(weight * x.scale, self.weight_bits), bias)

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


def per_channel(weight: Tensor, bits: int) -> Steps:
    """weight (n, k) in steps of each row's largest magnitude / (2^(bits-1) - 1); scale (n,)."""
    top = 2 ** (bits - 1) - 1
    peak = weight.detach().abs().amax(1)
    scale = torch.where(peak > 0, peak, 1.0) / top
    return Steps(torch.clamp(_round_even(weight / scale[:, None]), -top, top), scale)


def per_tensor(table: Tensor) -> Steps:
    """A table in int8 steps of its largest magnitude / 127."""
    peak = float(table.detach().abs().max())
    scale = (peak if peak > 0 else 1.0) / 127
    return Steps(torch.clamp(_round_even(table / scale), -127, 127), scale)


def _product(x: Tensor, weight: Steps, bias: Tensor) -> Steps:
    return Steps(x @ weight.value.t() + _round_even(bias / weight.scale), weight.scale)


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
    """To the nearest whole number, ties upward as `multiply_high` has them; the gradient passes."""
    return x + (torch.floor(x + 0.5) - x).detach()


def _round_even(x: Tensor) -> Tensor:
    """To the nearest whole number, ties to even as constants are rounded; the gradient passes."""
    return x + (torch.round(x) - x).detach()


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
