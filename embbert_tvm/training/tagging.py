"""Label and tags together: the losses, and the metrics of a model of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embbert_tvm.data.slots import TagFigures, tag_figures, word_tags
from embbert_tvm.errors import InputError
from embbert_tvm.heads import RULES, TOKENS, VITERBI, FurtherHead
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.models.config import EmbBertConfig, ModelConfig
from embbert_tvm.training.batches import UNLABELLED, TokenizedSet, in_order

SLOTS = "slots"  # the name of the head of tags
BOTH = "label and tags right"  # what chooses the epoch
_BATCH = 64


def slots_head(tags: Sequence[str] | None, config: ModelConfig, layer: int | None) -> tuple[FurtherHead, ...]:
    """The head of words' tags, in a list; none where they have none. layer: that it reads behind, None for the last but
    one of an EmbBERT, whose last layer then computes the one row that the label needs."""
    if tags is None:
        return ()
    layers = getattr(config, "layers", 1)
    if layer is None and isinstance(config, EmbBertConfig) and layers > 1:
        layer = layers - 1
    if layer is not None and layer > layers:
        raise InputError(f"--tag-layer {layer}: the model has {layers} layers")
    if isinstance(config, EmbBertConfig) and config.pool_tokens > 1 and layer != 1:
        raise InputError("the layers behind the first read several tokens as one row: tags need --tag-layer 1")
    return (FurtherHead(SLOTS, TOKENS, tuple(tags), layer, VITERBI),)


def choose_rule(model: TextClassifier, dev: TokenizedSet) -> dict[str, TagFigures] | None:
    """Give the model's tags the rule that is best on dev; the figures of each rule, None where words have no tags."""
    if dev.tags is None:
        return None
    tagger = Tagger(model, dev)
    rule = tagger.best_rule()
    model.more = tuple(replace(head, rule=rule) if head.of_tokens else head for head in model.more)
    return {rule: tagger.figures(rule) for rule in RULES}


def label_loss(logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    """The mean over the labelled texts of a batch; 0 where there is none."""
    if logits.shape[1] == 1:
        labelled = ~targets.isnan()
        losses = F.mse_loss(logits[:, 0], targets.nan_to_num().float(), reduction="none") * labelled
    else:
        labelled = targets != UNLABELLED
        losses = F.cross_entropy(
            logits, targets, label_smoothing=label_smoothing, ignore_index=UNLABELLED, reduction="none"
        )
    return losses.sum() / labelled.sum().clamp(min=1)


def tag_loss(more: Sequence[Tensor], tags: Tensor, label_smoothing: float) -> Tensor:
    """The mean over the tagged tokens of a batch, 0 where there is none.

    more: logits of the further heads, the first of them the tags'.
    """
    return label_loss(more[0].flatten(0, 1), tags.flatten(), label_smoothing)


class Tagger:
    """A model's labels and scores of tags on a set, computed once, in the set's order."""

    def __init__(self, model: TextClassifier, data: TokenizedSet) -> None:
        assert data.tags is not None
        model.eval()
        self._tags, self.targets = data.tags, np.array(data.targets)
        self.labels = np.zeros(len(data), np.int64)
        self._scores: list[np.ndarray] = [np.zeros((0, 0))] * len(data)
        total = 0.0
        with torch.no_grad():
            for batch in (x.to(model.device) for x in in_order(data, _BATCH)):
                logits, *more = model.answers(model.read_by_heads(batch.ids, batch.mask))
                assert batch.tags is not None
                loss = label_loss(logits, batch.targets, 0.0) + tag_loss(more, batch.tags, 0.0)
                total += loss.item() * len(batch.rows)
                self.labels[list(batch.rows)] = logits.argmax(1).cpu().numpy()
                for row, scores in zip(batch.rows, more[0].cpu().numpy(), strict=True):
                    self._scores[row] = scores
        self.loss = total / len(data)

    def tags(self, rule: str) -> list[list[str]]:
        """What every word of the set is tagged."""
        return [
            word_tags(scores, words, self._tags.names, rule)
            for scores, words in zip(self._scores, self._tags.words, strict=True)
        ]

    def figures(self, rule: str = VITERBI) -> TagFigures:
        return tag_figures(self.labels == self.targets, self._tags.expected, self.tags(rule))

    def best_rule(self) -> str:
        """The one of heads.RULES whose entities are right more often; the first of equals."""
        return max(RULES, key=lambda rule: self.figures(rule).entity_f1)
