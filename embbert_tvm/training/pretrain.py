"""Pre-training: sentence-embedding distillation, masked or replaced tokens, and next sentences.

The same data, recipe and machine give the same weights, interrupted or not. Under `torchrun` the processes share
each step's batches; every process must see the same files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from embbert_tvm.data.tokenizer import CLS, PAD, SEP, TextTokenizer, encodings
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.models.config import ModelConfig, ids_per_token
from embbert_tvm.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from embbert_tvm.training.objectives import Trainee, mask_tokens
from embbert_tvm.training.optimization import adamw, moments_of, one_thread, restore_moments, seed_of, set_rate
from embbert_tvm.training.recipe import PretrainRecipe

_BUCKET = 50  # batches whose texts are sorted by length together


@dataclass(frozen=True)
class Sentences:
    """Texts as ids, [CLS] first, and a teacher's unit vector (N, D) for each."""

    ids: list[list[int]]
    vectors: np.ndarray


def sentence_ids(config: ModelConfig, tokenizer: TextTokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Each text's ids behind [CLS], cut at the longest that the model reads."""
    first = [CLS] * ids_per_token(config)
    most = config.max_length - len(first)
    return [[*first, *x.ids[:most]] for x in encodings(tokenizer, texts, special_tokens=False)]


@dataclass(frozen=True)
class Documents:
    """Documents as sentences of ids, without special tokens, that pairs of at most `max_length` are cut from."""

    sentences: list[list[list[int]]]
    max_length: int

    def epoch(self, rng: random.Random) -> tuple[list[list[int]], list[int]]:
        """`[CLS] a [SEP] b` and 1 where b follows a, 0 where it starts elsewhere, half and half; each text once."""
        pairs, follows = [], []
        for document in self.sentences:
            start = 0
            while start < len(document):
                first, start = _fill(document, start, self.max_length // 2 - 1)
                is_next = start < len(document) and rng.random() < 0.5
                if is_next:
                    second, start = _fill(document, start, self.max_length - len(first) - 2)
                else:
                    other = rng.choice(self.sentences)
                    second, _ = _fill(other, rng.randrange(len(other)), self.max_length - len(first) - 2)
                pairs.append([CLS, *first, SEP, *second])
                follows.append(int(is_next))
        return pairs, follows


@dataclass(frozen=True)
class Point:
    """The means of the losses over the steps up to `step`."""

    step: int
    losses: dict[str, float]


@dataclass(frozen=True)
class PretrainingCallbacks:
    """What a caller may show meanwhile."""

    on_step: Callable[[int, int], None] = lambda done, total: None
    on_point: Callable[[Point], None] = lambda point: None
    on_note: Callable[[str], None] = lambda text: None


def pretrain(
    model: TextClassifier,
    data: Sentences | Documents,
    recipe: PretrainRecipe,
    checkpoint: Path,
    progress: PretrainingCallbacks | None = None,
) -> list[Point]:
    """Train `model` in place; gives the loss curve.

    The state is kept in `checkpoint` every `recipe.save_every` steps by the first process; one of the same data
    and recipe is resumed, any other is started over. The caller deletes it.
    Raises WorkError where the loss is no longer finite.
    """
    progress = progress or PretrainingCallbacks()
    rank, world, device = place()
    device = device if model.on_any_device else torch.device("cpu")
    one_thread()
    torch.manual_seed(seed_of(f"{recipe.seed} heads"))
    trainee = Trainee(model, recipe, data.vectors.shape[1] if isinstance(data, Sentences) else None).to(device)
    trained = [parameter for parameter in trainee.parameters() if parameter.requires_grad]
    optimizer = adamw(trained, recipe.lr, recipe.weight_decay)
    run = _fingerprint(trainee, data, world)
    step, history = _resume(trainee, optimizer, checkpoint, run, progress)
    parallel = DistributedDataParallel(trainee) if world > 1 else trainee
    per_epoch, total, done, sums = 0, 0, 0, {}
    for epoch in range(recipe.epochs):
        batches = _batches(data, recipe, epoch, rank, world)
        per_epoch = per_epoch or len(batches)
        total = total or per_epoch * recipe.epochs
        if not total:
            raise InputError(f"the texts make fewer batches of {recipe.batch_size} than there are processes ({world})")
        if done + len(batches) <= step:
            done += len(batches)
            continue
        for batch in batches[max(0, step - done) :]:
            if step % recipe.save_every == 0:
                parallel.train()  # a model that rounds finds its scales anew, here and where it is resumed
            torch.manual_seed(seed_of(f"{recipe.seed} {step} {rank}"))
            set_rate(optimizer, recipe.lr, min(step, total - 1), recipe.warmup_steps, total, recipe.schedule)
            losses = _step(parallel, trainee, optimizer, batch, recipe, device)
            step += 1
            for name, loss in losses.items():
                sums.setdefault(name, []).append(loss)
            if step % recipe.save_every == 0 or step == total:
                point = Point(step, {name: float(np.mean(values)) for name, values in sums.items()})
                sums = {}
                if not all(map(math.isfinite, point.losses.values())):
                    raise WorkError(f"the loss is no longer finite at step {step}: try a smaller --lr")
                history.append(dataclasses.asdict(point))
                if rank == 0:
                    current = {key: value.cpu() for key, value in trainee.state_dict().items()}
                    moments = {key: value.cpu() for key, value in moments_of(trainee, optimizer).items()}
                    save_checkpoint(checkpoint, Checkpoint(epoch, step, current, moments, {}, {}, history), run)
                progress.on_point(point)
            progress.on_step(step, total)
        done += len(batches)
    model.to("cpu").eval().requires_grad_(True)
    return [Point(**record) for record in history]


def _resume(
    trainee: Trainee, optimizer: torch.optim.Optimizer, checkpoint: Path, run: str, progress: PretrainingCallbacks
) -> tuple[int, list[dict]]:
    """How many steps a checkpoint of the same run has done, its state loaded, and its points; (0, []) without."""
    state = load_checkpoint(checkpoint, run)
    if state is None:
        if checkpoint.is_file():
            progress.on_note(f"{checkpoint}: of other data or options, or damaged: starting over")
        return 0, []
    trainee.load_state_dict(state.model)
    restore_moments(trainee, optimizer, state.moments, state.step)
    progress.on_note(f"{checkpoint}: resuming after step {state.step}")
    for record in state.history:
        progress.on_point(Point(**record))
    return state.step, list(state.history)


def _step(
    parallel: nn.Module,
    trainee: Trainee,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    recipe: PretrainRecipe,
    device: torch.device,
) -> dict[str, float]:
    ids, goal = (x.to(device) for x in batch)
    if recipe.mlm_weight:
        masked, chosen = mask_tokens(ids, trainee.model.config.vocabulary_size, always=bool(recipe.replaced_weight))
    else:
        masked, chosen = ids, ids < 0
    losses = parallel(ids, masked, chosen, goal)
    optimizer.zero_grad(set_to_none=True)
    losses["total"].backward()
    torch.nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
    optimizer.step()
    return {name: loss.item() for name, loss in losses.items()}


def _fill(document: list[list[int]], start: int, most: int) -> tuple[list[int], int]:
    """Ids of whole sentences from `start` on, at most `most` ids, and the sentence after them; the first is cut."""
    ids = document[start][:most]
    start += 1
    while start < len(document) and len(ids) + len(document[start]) <= most:
        ids = ids + document[start]
        start += 1
    return ids, start


class _Batches(Sequence):
    """This process's share of an epoch's batches, made when requested: ids (B, L) padded at the end, and goals."""

    def __init__(self, ids: list[list[int]], goals: np.ndarray, rows: list[list[int]]) -> None:
        self._ids, self._goals, self._rows = ids, goals, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return _Batches(self._ids, self._goals, self._rows[index])
        rows = self._rows[index]
        ids = torch.full((len(rows), max(len(self._ids[i]) for i in rows)), PAD, dtype=torch.int64)
        for row, i in enumerate(rows):
            ids[row, : len(self._ids[i])] = torch.tensor(self._ids[i])
        goal = torch.from_numpy(self._goals[rows])
        return ids, goal.float() if goal.is_floating_point() else goal


def _batches(data: Sentences | Documents, recipe: PretrainRecipe, epoch: int, rank: int, world: int) -> _Batches:
    rng = random.Random(f"{recipe.seed} {epoch}")
    if isinstance(data, Sentences):
        ids, goals = data.ids, data.vectors
    else:
        ids, follows = data.epoch(rng)
        goals = np.array(follows)
    rows = length_batches([len(x) for x in ids], recipe.batch_size, rng)
    return _Batches(ids, goals, rows[rank : len(rows) - len(rows) % world : world])


def length_batches(lengths: Sequence[int], batch_size: int, rng: random.Random) -> list[list[int]]:
    """Every index once, in batches of like lengths, in an order that rng decides."""
    order = list(range(len(lengths)))
    rng.shuffle(order)
    batches = []
    for start in range(0, len(order), batch_size * _BUCKET):
        bucket = sorted(order[start : start + batch_size * _BUCKET], key=lengths.__getitem__)
        batches += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    rng.shuffle(batches)
    return batches


def place() -> tuple[int, int, torch.device]:
    """This process's rank, how many there are, and its device; joins them where torchrun started several."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    cuda = torch.cuda.is_available()
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    rank = dist.get_rank() if world > 1 else 0
    local = int(os.environ.get("LOCAL_RANK", "0"))
    return rank, world, torch.device("cuda", local) if cuda else torch.device("cpu")


def _fingerprint(trainee: Trainee, data: Sentences | Documents, world: int) -> str:
    """A hash of everything that the trained weights follow from."""
    digest = hashlib.sha256(
        json.dumps(
            [trainee.model.config.to_dict(), dataclasses.asdict(trainee.recipe), world, torch.__version__]
        ).encode()
    )
    if isinstance(data, Sentences):
        digest.update(json.dumps(data.ids).encode())
        digest.update(np.ascontiguousarray(data.vectors).tobytes())
    else:
        digest.update(json.dumps([data.sentences, data.max_length]).encode())
    for key, value in trainee.state_dict().items():
        digest.update(key.encode())
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()
