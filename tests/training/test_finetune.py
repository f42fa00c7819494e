"""Training: it learns, it is repeatable, it resumes to the same bits."""

import dataclasses
import random

import pytest
import torch

import embbert_tvm.training.finetune as finetune_module
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.models.config import PRESETS, EmbBertConfig
from embbert_tvm.models.embbert import EmbBert
from embbert_tvm.models.registry import build
from embbert_tvm.training.batches import Batch, TokenizedSet, in_order, shuffled
from embbert_tvm.training.finetune import TrainingCallbacks, evaluate_model, finetune
from embbert_tvm.training.recipe import Recipe

CONFIG = EmbBertConfig(20, 12, 8, 4, kernel_size=3, layers=2)
RECIPE = Recipe(epochs=4, batch_size=8, lr=1e-2, token_dropout=0.1, average=0.9, label_smoothing=0.05)


def make_set(size: int, seed: int) -> TokenizedSet:
    """Texts of random tokens; the class says whether token 7 occurs."""
    rng = random.Random(seed)
    ids = [[2, *(rng.randrange(5, 20) for _ in range(rng.randrange(0, 11)))] for _ in range(size)]
    return TokenizedSet(ids, [int(7 in x) for x in ids], 0)


TRAIN, DEV = make_set(80, 1), make_set(40, 2)


def train(checkpoint, recipe=RECIPE, progress=None, classes=2):
    torch.manual_seed(recipe.seed)
    model = EmbBert(CONFIG, classes, recipe.dropout)
    return model, finetune(model, TRAIN, DEV, recipe, checkpoint, progress)


def same(a: EmbBert, b: EmbBert) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole") / "state.safetensors")


class Interrupt(Exception):
    pass


@pytest.mark.parametrize("step", [3, 10, 15, 39], ids=["first epoch", "its end", "second epoch", "last epoch"])
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, whole, step):
    def stop(done, total):
        assert total == 40
        if done == step:
            raise Interrupt

    with pytest.raises(Interrupt):
        train(tmp_path / "state", progress=TrainingCallbacks(on_step=stop))
    seen = []
    model, history = train(
        tmp_path / "state", progress=TrainingCallbacks(on_step=lambda done, total: seen.append(done))
    )
    assert seen == list(range(10 * ((step - 1) // 10) + 1, 41))
    assert history == whole[1]
    assert same(model, whole[0])


def test_a_finished_run_is_not_run_again(tmp_path, whole):
    train(tmp_path / "state")
    seen = []
    model, _ = train(tmp_path / "state", progress=TrainingCallbacks(on_step=lambda *step: seen.append(step)))
    assert seen == []
    assert same(model, whole[0])


@pytest.mark.parametrize("damage", ["recipe", "bytes"])
def test_another_checkpoint_is_started_over(tmp_path, whole, damage):
    notes = []
    if damage == "recipe":
        train(tmp_path / "state", Recipe(epochs=1, seed=5))
    else:
        (tmp_path / "state").write_bytes(b"\x10" * 100)
    model, _ = train(tmp_path / "state", progress=TrainingCallbacks(on_note=notes.append))
    assert "starting over" in notes[0]
    assert same(model, whole[0])


def test_the_seed_decides(tmp_path, whole):
    model, _ = train(tmp_path / "state", Recipe(**{**RECIPE.__dict__, "seed": 1}))
    assert not same(model, whole[0])


def test_the_best_epoch_is_kept(whole):
    model, history = whole
    best = max(history, key=lambda e: (e.dev_metric, -e.dev_loss))
    assert [e.best for e in history if e.number >= best.number] == [True] + [False] * (4 - best.number)
    assert evaluate_model(model, DEV) == (best.dev_metric, best.dev_loss)


def test_loss_chooses_the_epoch_where_the_recipe_says_so(tmp_path, monkeypatch):
    found = iter([(0.9, 0.5), (0.95, 0.6), (0.8, 0.4), (0.95, 0.45)])
    monkeypatch.setattr(finetune_module, "evaluate_model", lambda model, data: next(found))
    _, history = train(tmp_path / "loss", dataclasses.replace(RECIPE, select="loss"))
    assert [e.best for e in history] == [True, False, True, False]
    found = iter([(0.9, 0.5), (0.95, 0.6), (0.8, 0.4), (0.95, 0.45)])
    _, history = train(tmp_path / "metric", RECIPE)
    assert [e.best for e in history] == [True, True, False, True]


def test_it_learns(tmp_path):
    recipe = Recipe(20, 1e-2, 8, dropout=0.0, label_smoothing=0.0, token_dropout=0.0)
    _, history = train(tmp_path / "state", recipe)
    assert history[-1].train_loss < 0.2 < history[0].train_loss
    assert max(e.dev_metric for e in history) > 0.6


def test_regression_learns(tmp_path):
    numbers = TokenizedSet(TRAIN.ids, [float(x) for x in TRAIN.targets], 0)
    model = EmbBert(CONFIG, 1, 0.0)
    history = finetune(model, numbers, numbers, Recipe(epochs=10, lr=1e-2, batch_size=8), tmp_path / "state")
    assert history[-1].train_loss < history[0].train_loss
    assert max(e.dev_metric for e in history) > 0.5


def test_a_diverging_run_says_so(tmp_path):
    with pytest.raises(WorkError, match="smaller --lr"):
        train(tmp_path / "state", Recipe(epochs=3, lr=1e30, warmup_steps=0))


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"weight_decay": -1.0},
        {"dropout": 1.0},
        {"token_dropout": -0.1},
        {"select": "luck"},
    ],
)
def test_an_impossible_recipe_is_refused(change):
    with pytest.raises(InputError):
        Recipe(**change)


@pytest.mark.parametrize("batches", [lambda: in_order(TRAIN, 7), lambda: shuffled(TRAIN, 7, "a")])
def test_every_example_once(batches):
    seen = [row[row != 0].tolist() for batch in batches() for row in batch.ids]
    assert sorted(seen) == sorted(TRAIN.ids)
    for batch in batches():
        assert torch.equal(batch.mask, batch.ids != 0)
        assert bool(batch.mask.any(0).all())  # no column of padding alone


@pytest.mark.parametrize("preset", PRESETS)
def test_a_model_computes_with_nothing_that_stays_behind_when_it_moves(preset):
    model = build(PRESETS[preset], 3).to("meta").train()
    assert model.on_any_device
    ids = torch.ones(2, 9, dtype=torch.int64)
    batch = Batch(ids, ids > 0, torch.zeros(2, dtype=torch.int64), teacher=torch.zeros(2, 3)).to(model.device)
    assert {x.device.type for x in (batch.ids, batch.mask, batch.targets, batch.teacher)} == {"meta"}
    assert batch.hidden is None
    logits, *more = model.answers(model.read_by_heads(batch.ids, batch.mask))
    assert not more
    assert (logits.device.type, logits.shape) == ("meta", (2, 3))


def test_short_texts_are_learned_on_the_cpu_and_long_ones_where_there_is_a_gpu(monkeypatch):
    model, recipe = EmbBert(CONFIG, 2, 0.0), Recipe(batch_size=32)
    short, long = (TokenizedSet([[2] * tokens] * 4, [0] * 4, 0) for tokens in (8, 64))
    assert finetune_module._place(model, long, recipe).type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert finetune_module._place(model, short, recipe).type == "cpu"
    assert finetune_module._place(model, long, recipe).type == "cuda"
    model.on_any_device = False
    assert finetune_module._place(model, long, recipe).type == "cpu"
