"""Fine-tuning: the same data, recipe and machine give the same weights, interrupted or not."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embbert_tvm.data import metrics
from embbert_tvm.data.tokenizer import UNK
from embbert_tvm.errors import WorkError
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.models.config import ids_per_token
from embbert_tvm.training.batches import Batch, TokenizedSet, in_order, shuffled
from embbert_tvm.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from embbert_tvm.training.optimization import adamw, moments_of, one_thread, restore_moments, seed_of, set_rate
from embbert_tvm.training.recipe import Recipe
from embbert_tvm.training.tagging import Tagger, label_loss, tag_loss

_FIRST_TEXT_ID = 5  # ids below are special tokens, which token dropout leaves
# Of a batch. A step of 32 texts takes an H200 13 ms whether they have 12 tokens or 256, since launching kernels takes
# longer than they do; one core beside it 22 ms with 12 tokens and 549 with 256, a faster core 9 ms with 12.
_TOKENS_FOR_A_GPU = 400


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: mean training loss, dev metric and loss, and whether it is the best so far."""

    number: int
    train_loss: float
    dev_metric: float
    dev_loss: float
    best: bool


@dataclass(frozen=True)
class TrainingCallbacks:
    """What a caller may show meanwhile. `on_step(done, all)` counts batches over all epochs."""

    on_step: Callable[[int, int], None] = lambda done, total: None
    on_epoch: Callable[[Epoch], None] = lambda epoch: None
    on_note: Callable[[str], None] = lambda text: None


def finetune(
    model: TextClassifier,
    train: TokenizedSet,
    dev: TokenizedSet,
    recipe: Recipe,
    checkpoint: Path,
    progress: TrainingCallbacks | None = None,
) -> list[Epoch]:
    """Train `model` in place and leave in it the weights of the epoch that is best on dev.

    Best is by MCC (Spearman for one output), then by dev loss, or by the loss alone (`recipe.select`). The state is
    kept in `checkpoint` after every epoch; one of the same data and recipe is resumed, any other is started over.
    The caller deletes it. Batches of many tokens are learned on a GPU where there is one; the model is left on the CPU.
    Raises WorkError where the loss is no longer finite.
    """
    progress = progress or TrainingCallbacks()
    one_thread()
    run = _fingerprint(model, train, dev, recipe)
    model.to(_place(model, train, recipe))
    optimizer = adamw(model.parameters(), recipe.lr, recipe.weight_decay)
    state = _resume(model, optimizer, checkpoint, run, progress)
    while state.epoch < recipe.epochs:
        state = _epoch(model, optimizer, state, (train, dev), recipe, progress)
        save_checkpoint(checkpoint, state, run)
        progress.on_epoch(Epoch(**state.history[-1]))
    model.load_state_dict(state.best)
    model.to("cpu").eval()
    return [Epoch(**record) for record in state.history]


def _place(model: TextClassifier, train: TokenizedSet, recipe: Recipe) -> torch.device:
    tokens = recipe.batch_size * float(np.mean([len(x) for x in train.ids]))
    worth = torch.cuda.is_available() and model.on_any_device and tokens >= _TOKENS_FOR_A_GPU
    return torch.device("cuda" if worth else "cpu")


def _resume(
    model: TextClassifier, optimizer: torch.optim.AdamW, checkpoint: Path, run: str, progress: TrainingCallbacks
) -> Checkpoint:
    """The state to go on from, its weights and moments in `model` and `optimizer`."""
    state = load_checkpoint(checkpoint, run)
    if state is None:
        if checkpoint.is_file():
            progress.on_note(f"{checkpoint}: of other data or options, or damaged: starting over")
        start = _copy(model)
        return Checkpoint(0, 0, start, {}, _copy(model), start, [])
    progress.on_note(f"{checkpoint}: resuming after epoch {state.epoch}")
    for record in state.history:
        progress.on_epoch(Epoch(**record))
    model.load_state_dict(state.model)
    restore_moments(model, optimizer, state.moments, state.step)
    mean = {key: value.to(model.device) for key, value in state.mean.items()}
    return dataclasses.replace(state, mean=mean)


def _epoch(
    model: TextClassifier,
    optimizer: torch.optim.AdamW,
    state: Checkpoint,
    sets: tuple[TokenizedSet, TokenizedSet],
    recipe: Recipe,
    progress: TrainingCallbacks,
) -> Checkpoint:
    """Train for one epoch on the first of the sets and evaluate the mean weights on the second, dev."""
    train, dev = sets
    number, step, mean = state.epoch + 1, state.step, state.mean
    total = recipe.epochs * -(-len(train) // recipe.batch_size)
    # Seeded an epoch at a time: a run resumed here draws the same numbers as one that never stopped.
    torch.manual_seed(seed_of(f"{recipe.seed} {number}"))
    model.train()
    losses = []
    for batch in shuffled(train, recipe.batch_size, f"{recipe.seed} {number}"):
        set_rate(optimizer, recipe.lr, step, recipe.warmup_steps, total)
        losses.append(_step(model, optimizer, batch, recipe))
        _update_mean(mean, model, recipe.average, step)
        step += 1
        progress.on_step(step, total)
    if not np.isfinite(losses).all():
        raise WorkError(f"the loss is no longer finite in epoch {number}: try a smaller --lr")
    current = _copy(model)
    model.load_state_dict(mean)
    metric, loss = evaluate_model(model, dev)
    model.load_state_dict(current)
    best = max((_merit(recipe, e["dev_metric"], e["dev_loss"]) for e in state.history), default=None)
    better = best is None or _merit(recipe, metric, loss) > best
    return Checkpoint(
        epoch=number,
        step=step,
        model=current,
        moments=moments_of(model, optimizer),
        mean=mean,
        best={key: value.clone() for key, value in mean.items()} if better else state.best,
        history=[
            *state.history,
            dataclasses.asdict(Epoch(number, float(np.mean(losses)), metric, loss, better)),
        ],
    )


def _merit(recipe: Recipe, metric: float, loss: float) -> tuple[float, ...]:
    return (-loss,) if recipe.select == "loss" else (metric, -loss)


def evaluate_model(model: TextClassifier, data: TokenizedSet, batch_size: int = 64) -> tuple[float, float]:
    """MCC (Spearman for one output; the share of texts whose label and tags are right, for tags) and mean loss."""
    if data.tags is not None:
        tagger = Tagger(model, data)
        return tagger.figures().both, tagger.loss
    logits, expected, loss = predict(model, data, batch_size)
    if model.classes == 1:
        return metrics.spearman(expected, logits[:, 0]), loss
    return metrics.mcc(expected, logits.argmax(1)), loss


def predict(model: TextClassifier, data: TokenizedSet, batch_size: int = 64) -> tuple[np.ndarray, np.ndarray, float]:
    """Logits (N, outputs) and targets (N,) of a set, the shortest text first, and the mean loss."""
    model.eval()
    outputs, targets, losses = [], [], []
    with torch.no_grad():
        for batch in in_order(data, batch_size):
            moved = batch.to(model.device)
            logits = model.classify(model.features(moved.ids, moved.mask))
            losses.append(label_loss(logits, moved.targets, 0.0).item() * len(batch.targets))
            outputs.append(logits.cpu())
            targets.append(batch.targets)
    return torch.cat(outputs).numpy(), torch.cat(targets).numpy(), float(np.sum(losses)) / len(data)


def logits_in_order(model: TextClassifier, data: TokenizedSet) -> np.ndarray:
    """Logits (N, outputs) of a set, in its order."""
    logits, _, _ = predict(model, data)
    found = np.empty_like(logits)
    found[sorted(range(len(data)), key=lambda i: len(data.ids[i]))] = logits
    return found


def _step(model: TextClassifier, optimizer: torch.optim.Optimizer, batch: Batch, recipe: Recipe) -> float:
    batch = batch.to(model.device)
    ids = batch.ids
    if recipe.token_dropout:
        each = ids_per_token(model.config)
        tokens = torch.rand(len(ids), ids.shape[1] // each).repeat_interleave(each, 1)
        dropped = (tokens.to(ids.device) < recipe.token_dropout) & (ids >= _FIRST_TEXT_ID)
        ids = ids.masked_fill(dropped, UNK)
    features, *others = model.read_by_heads(ids, batch.mask)
    logits, *more = model.answers([features, *others])
    loss = label_loss(logits, batch.targets, recipe.label_smoothing)
    if batch.teacher is not None:
        soft = distillation_loss(logits, batch.teacher, recipe.temperature)
        loss = (1 - recipe.teacher_weight) * loss + recipe.teacher_weight * soft
    if batch.hidden is not None:
        loss = loss + recipe.hidden_weight * (1 - F.cosine_similarity(features, batch.hidden).mean())
    if batch.tags is not None:
        loss = loss + recipe.tag_weight * _tag_loss(more, batch, recipe)
    if batch.further is not None:
        labels = batch.further.unbind(1)
        for found, targets in zip(more[-len(labels) :], labels, strict=True):
            loss = loss + label_loss(found, targets, recipe.label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def _tag_loss(more: Sequence[Tensor], batch: Batch, recipe: Recipe) -> Tensor:
    """The loss of words' tags, by a set's and a teacher's. more: as `tag_loss` has them."""
    assert batch.tags is not None
    loss = tag_loss(more, batch.tags, recipe.label_smoothing)
    if batch.tag_teacher is None:
        return loss
    known = ~batch.tag_teacher.isnan().any(2)
    if not known.any():
        return loss
    soft = distillation_loss(more[0][known], batch.tag_teacher[known], recipe.temperature)
    return (1 - recipe.teacher_weight) * loss + recipe.teacher_weight * soft


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence of softmax(logits / T) from softmax(teacher / T), times T^2 (Hinton et al., arXiv 1503.02531).

    Both (B, classes); of one output the mean squared difference.
    """
    if logits.shape[1] == 1:
        return F.mse_loss(logits, teacher)
    found = F.log_softmax(logits / temperature, dim=1)
    wanted = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(found, wanted, reduction="batchmean", log_target=True) * temperature**2


def _update_mean(mean: dict[str, Tensor], model: TextClassifier, decay: float, step: int) -> None:
    decay = min(decay, (1 + step) / (10 + step))  # young means follow quickly
    for key, value in model.state_dict().items():
        mean[key].lerp_(value, 1 - decay)


def _copy(model: TextClassifier) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def _fingerprint(model: TextClassifier, train: TokenizedSet, dev: TokenizedSet, recipe: Recipe) -> str:
    """A hash of everything that the trained weights follow from."""
    description = [
        model.config.to_dict(),
        dataclasses.asdict(recipe),
        *([data.ids, data.targets] for data in (train, dev)),
        [data.tags and [data.tags.names, data.tags.expected] for data in (train, dev)],
        None if train.further is None else train.further.tolist(),
        torch.__version__,
    ]
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    told = train.tags.teacher or [] if train.tags is not None else []
    for learned in (train.teacher, train.hidden, *told):
        if learned is not None:
            digest.update(learned.tobytes())
    for key, value in model.state_dict().items():
        digest.update(key.encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()
