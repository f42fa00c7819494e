"""Fine-tuning an encoder, so that it can teach a task."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from embbert_tvm.data.files import folder_in_place, sha256_of
from embbert_tvm.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from embbert_tvm.training.optimization import (
    adamw,
    moments_of,
    one_thread,
    restore_moments,
    seed_of,
    set_rate,
)
from embbert_tvm.training.pretrain import length_batches
from embbert_tvm.training.recipe import TeacherRecipe
from embbert_tvm.training.task_teacher import load_transformers
from embbert_tvm.training.teacher_goals import Goal


@dataclass(frozen=True)
class TeacherEpoch:
    """What one epoch of fine-tuning a teacher gave."""

    number: int
    train_loss: float
    dev_metric: float


@dataclass(frozen=True)
class TeacherCallbacks:
    """What a caller may show meanwhile."""

    on_epoch: Callable[[TeacherEpoch], None] = lambda epoch: None
    on_step: Callable[[int, int], None] = lambda done, total: None
    on_note: Callable[[str], None] = lambda note: None


def finetune_teacher(
    encoder: Path,
    goal: Goal,
    output: Path,
    recipe: TeacherRecipe | None = None,
    progress: TeacherCallbacks | None = None,
) -> Path:
    """Fine-tune an encoder and write the epoch best on dev by the goal's metric as a transformers folder `output`.

    An interrupted run resumes after its last whole epoch when it is called again with the same goal and recipe.
    Raises InputError for a folder that holds no encoder.
    """
    tuning = _Tuning(encoder, goal, recipe or TeacherRecipe())
    progress = progress or TeacherCallbacks()
    checkpoint = output.parent / f".{output.name}.training.safetensors"
    best = tuning.run(checkpoint, progress)
    tuning.model.load_state_dict(best)
    with folder_in_place(output) as path:
        tuning.model.save_pretrained(path)
        tuning.tokenizer.save_pretrained(path)
    checkpoint.unlink(missing_ok=True)
    return output


class _Tuning:
    """An encoder in training, with a new head."""

    def __init__(self, encoder: Path, goal: Goal, recipe: TeacherRecipe) -> None:
        one_thread()
        torch.manual_seed(seed_of(f"{recipe.seed} teacher"))
        self.goal, self.recipe = goal, recipe
        names = goal.names
        self.tokenizer, self.model = load_transformers(
            encoder, goal.head, "an encoder", **goal.settings, num_labels=len(names),
            id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)},
        )  # fmt: skip
        _freeze(self.model, recipe.frozen)
        self._trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._optimizer = adamw(self._trained, recipe.lr, recipe.weight_decay)
        _quicken(self._optimizer, self.model, recipe.head_times)
        self._run = _fingerprint(encoder, goal, recipe)

    def run(self, checkpoint: Path, progress: TeacherCallbacks) -> dict[str, Tensor]:
        """The weights of the epoch that is best on dev; the state is kept in `checkpoint` after every epoch."""
        train, recipe = self.goal.train, self.recipe
        lengths = [len(x.text) + len(x.text_pair or "") for x in train]
        steps = -(-len(train) // recipe.batch_size)
        epochs = max(recipe.epochs, min(-(-recipe.least_steps // steps), recipe.most_epochs))
        state = load_checkpoint(checkpoint, self._run)
        best, history = self._resume(state, checkpoint, progress)
        for number in range(len(history) + 1, epochs + 1):
            step, losses = (number - 1) * steps, []
            self.model.train()
            torch.manual_seed(seed_of(f"{recipe.seed} teacher {number}"))
            for rows in length_batches(lengths, recipe.batch_size, random.Random(f"{recipe.seed} {number}")):
                set_rate(self._optimizer, recipe.lr, step, recipe.warmup_steps, epochs * steps)
                losses.append(self._step(rows))
                step += 1
                progress.on_step(step, epochs * steps)
            epoch = TeacherEpoch(number, float(np.mean(losses)), self._dev_metric())
            progress.on_epoch(epoch)
            if epoch.dev_metric > max((x["dev_metric"] for x in history), default=-np.inf):
                best = {key: value.cpu().clone() for key, value in self.model.state_dict().items()}
            history.append(dataclasses.asdict(epoch))
            if number < epochs:
                current = {key: value.cpu() for key, value in self.model.state_dict().items()}
                moments = {key: value.cpu() for key, value in moments_of(self.model, self._optimizer).items()}
                save_checkpoint(checkpoint, Checkpoint(number, step, current, moments, {}, best, history), self._run)
        return best

    def _resume(
        self, state: Checkpoint | None, checkpoint: Path, progress: TeacherCallbacks
    ) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
        if state is None:
            return {}, []
        self.model.load_state_dict(state.model)
        restore_moments(self.model, self._optimizer, state.moments, state.step)
        progress.on_note(f"{checkpoint}: the teacher resumes after epoch {state.epoch}")
        for record in state.history:
            progress.on_epoch(TeacherEpoch(**record))
        return state.best, list(state.history)

    def _step(self, rows: list[int]) -> float:
        """The loss of a batch, from which the model has learned."""
        examples = [self.goal.train[i] for i in rows]
        loss = self.goal.loss(self.model, self.tokenizer, examples, self.recipe.longest)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
        self._optimizer.step()
        return loss.item()

    def _dev_metric(self) -> float:
        return self.goal.metric(self.model, self.tokenizer, self.recipe.longest)


def _fingerprint(encoder: Path, goal: Goal, recipe: TeacherRecipe) -> str:
    """A hash of everything that the fine-tuned weights follow from."""
    files = sorted(file for file in Path(encoder).rglob("*.safetensors"))
    document = [[sha256_of(file) for file in files], goal.names, goal.truth, dataclasses.asdict(recipe)]
    return hashlib.sha256(json.dumps([*document, torch.__version__]).encode()).hexdigest()


def _quicken(optimizer: torch.optim.Optimizer, model: torch.nn.Module, times: float) -> None:
    """Let the new head, which starts from nothing, learn `times` as fast as the encoder."""
    encoder = {id(parameter) for parameter in model.base_model.parameters()}
    groups = []
    for group in optimizer.param_groups:
        new = [parameter for parameter in group["params"] if id(parameter) not in encoder]
        group["params"] = [parameter for parameter in group["params"] if id(parameter) in encoder]
        groups.append({**group, "params": new, "times": times})
    for group in (group for group in groups if group["params"]):
        optimizer.add_param_group(group)


def _freeze(model, layers: int) -> None:
    """Leave the token table and the first layers out of training: their gradients cost half of a step on a CPU."""
    body = getattr(model, model.base_model_prefix)
    model.get_input_embeddings().requires_grad_(False)
    blocks = getattr(getattr(body, "encoder", None), "layer", [])
    for block in blocks[:layers]:
        block.requires_grad_(False)
