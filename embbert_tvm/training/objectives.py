"""What pre-training asks of a model: the heads that only it needs, and their losses."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embbert_tvm.data.tokenizer import MASK, PAD, SPECIAL_TOKENS
from embbert_tvm.errors import InputError
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.models.config import ids_per_token
from embbert_tvm.models.registry import build
from embbert_tvm.training.recipe import PretrainRecipe

_FIRST_TEXT_ID = len(SPECIAL_TOKENS)
_MASKED, _BY_MASK, _BY_OTHER = 0.15, 0.8, 0.1  # BERT's shares: of the tokens; of those [MASK], another token
_TEMPERATURE = 0.05  # of the contrastive loss
# Only directions are taught. Without this, what a head is to read grew a hundred thousand times in a pass of ternary
# weights, and nothing could be fine-tuned from it.
_SIZE_WEIGHT, _LEAST_SIZE = 0.01, 1e-12  # of how far the mean square of what a head reads is from 1
_GENERATOR_SHARE = 4  # ELECTRA (arXiv 2003.10555): a generator of a quarter of the discriminator's layers


class Trainee(nn.Module):
    """The model with the heads that pre-training needs; its forward gives the losses.

    teacher_width: numbers of a teacher's vector; None where texts come as pairs.
    """

    def __init__(self, model: TextClassifier, recipe: PretrainRecipe, teacher_width: int | None) -> None:
        super().__init__()
        d = model.config.hidden_size
        if recipe.mlm_weight and (getattr(model.config, "pool_tokens", 1) > 1 or ids_per_token(model.config) > 1):
            raise InputError(
                "a model that pools tokens or hashes words has no row for each id: it learns by --objective distil"
            )
        self.model, self.recipe = model, recipe
        model.head.requires_grad_(False)  # no loss reads it
        self.distils = teacher_width is not None
        if self.distils:
            self.to_teacher = nn.Linear(d, teacher_width)
        else:
            self.is_next = nn.Linear(d, 2)
        if recipe.mlm_weight:
            self.token = nn.Linear(d, model.config.vocabulary_size)  # untied, as the paper's
        if recipe.replaced_weight:
            self.is_replaced = nn.Linear(d, 1)
            self.generator = generator_of(model)

    def forward(self, ids: Tensor, masked: Tensor, chosen: Tensor, goal: Tensor) -> dict[str, Tensor]:
        """The losses of ids (B, L), read as `masked`, of which those `chosen` are to be found.

        `goal` holds the vectors (B, D) wanted of the texts, or the classes (B,) of the pairs.
        """
        if self.recipe.replaced_weight:
            of_tokens, states = self._detect_replaced(ids, masked, chosen)
            read = self.model.pool(states, ids != PAD)
        elif self.recipe.mlm_weight:
            states = self.model.states(masked, ids != PAD)
            of_tokens = self._find_masked(states, ids, chosen)
            read = self.model.pool(states, ids != PAD)
        else:
            of_tokens, read = {}, self.model.features(masked, ids != PAD)
        losses: dict[str, Tensor] = {}
        if self.distils:
            found = F.normalize(self.to_teacher(read), dim=1)
            alike = found @ goal.T / _TEMPERATURE
            losses["cosine"] = 1 - (found * goal).sum(1).mean()
            losses["contrastive"] = F.cross_entropy(alike, torch.arange(len(goal), device=goal.device))
            losses["size"] = read.square().mean(1).clamp(min=_LEAST_SIZE).log().square().mean()
        else:
            losses["next"] = F.cross_entropy(self.is_next(read), goal)
        losses |= of_tokens
        losses["total"] = sum(self._weight(name) * loss for name, loss in losses.items())
        return losses

    def _find_masked(self, states: Tensor, ids: Tensor, chosen: Tensor) -> dict[str, Tensor]:
        # A sum over the count: a batch of none chosen gives 0 and not NaN.
        loss = F.cross_entropy(self.token(states[chosen]), ids[chosen], reduction="sum")
        return {"mlm": loss / chosen.sum().clamp(min=1)}

    def _detect_replaced(self, ids: Tensor, masked: Tensor, chosen: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """ELECTRA's two losses, and the rows of the text whose chosen tokens the generator has drawn."""
        logits = self.token(self.generator.states(masked, ids != PAD)[chosen])
        mlm = F.cross_entropy(logits, ids[chosen], reduction="sum") / chosen.sum().clamp(min=1)
        uniform = torch.rand_like(logits).clamp(min=1e-9)
        drawn = (logits.detach() - uniform.log().neg().log()).argmax(1)  # Gumbel: a sample of the softmax
        read = ids.masked_scatter(chosen, drawn)
        states = self.model.states(read, ids != PAD)
        of_text = ids >= _FIRST_TEXT_ID
        replaced = (read != ids)[of_text].to(states.dtype)
        found = F.binary_cross_entropy_with_logits(self.is_replaced(states)[..., 0][of_text], replaced, reduction="sum")
        return {"mlm": mlm, "replaced": found / of_text.sum().clamp(min=1)}, states

    def _weight(self, name: str) -> float:
        recipe = self.recipe
        weights = {
            "mlm": recipe.mlm_weight,
            "replaced": recipe.replaced_weight,
            "contrastive": recipe.contrastive_weight,
            "size": _SIZE_WEIGHT,
        }
        return weights.get(name, 1.0)


def generator_of(model: TextClassifier) -> TextClassifier:
    """ELECTRA's generator: the same architecture with a quarter of the layers, on the same embedder."""
    config = model.config
    if hasattr(config, "layers"):
        config = dataclasses.replace(config, layers=max(1, config.layers // _GENERATOR_SHARE))
    generator = build(config, 1)
    generator.embedder = model.embedder
    generator.head.requires_grad_(False)
    return generator


def mask_tokens(ids: Tensor, vocabulary: int, *, always: bool = False) -> tuple[Tensor, Tensor]:
    """BERT's masking: 15 % of the text's tokens are chosen, of which 80 % become [MASK] and 10 % any token.

    ids (B, L); gives the ids to read and a bool (B, L) of the tokens to find. `always`: all of them become [MASK].
    """
    chosen = (torch.rand(ids.shape, device=ids.device) < _MASKED) & (ids >= _FIRST_TEXT_ID)
    if always:
        return ids.masked_fill(chosen, MASK), chosen
    drawn = torch.rand(ids.shape, device=ids.device)
    other = torch.randint(_FIRST_TEXT_ID, vocabulary, ids.shape, device=ids.device)
    replaced = torch.where(drawn < _BY_MASK, MASK, torch.where(drawn < _BY_MASK + _BY_OTHER, other, ids))
    return torch.where(chosen, replaced, ids), chosen
