"""How to train: no torch here, so that the command line shows the defaults without it."""

from __future__ import annotations

from dataclasses import dataclass

from embbert_tvm.errors import InputError

SELECTIONS = ("metric", "loss")
# New texts for each tagged one. Entity F1 on dev of Snips, one seed, ten epochs: 89.4 without, 91.4 with one, 92.0 with
# three.
EXCHANGED = 3

NGRAM_BYTES = 51_000  # of the n-grams' table: with the code and tables of embbert_ngrams.h 64 kB


@dataclass(frozen=True)
class Recipe:
    """How to train. Raises InputError for a value that cannot be."""

    epochs: int = 10
    lr: float = 2e-3
    batch_size: int = 32
    seed: int = 0
    weight_decay: float = 0.05
    warmup_steps: int = 200
    label_smoothing: float = 0.1
    dropout: float = 0.1  # of the attention weights
    token_dropout: float = 0.2  # share of the tokens that training replaces by [UNK]
    average: float = 0.998  # decay of the running mean of the weights that is kept; 0: the last weights
    teacher_weight: float = 0.8  # share of a teacher's logits in the loss, where there is one; the labels have the rest
    temperature: float = 2.0  # that a teacher's logits and the model's are divided by
    hidden_weight: float = 0.0  # of 1 - cosine between what the head reads and the teacher's last state
    tag_weight: float = 1.0  # of the mean loss of words' tags beside that of the label, where words have tags
    select: str = "metric"  # of dev, that chooses the epoch: its metric, and of equals its loss; or "loss" alone

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}")
        if not self.lr > 0:
            raise InputError(f"lr must be more than 0, not {self.lr}")
        for name in ("weight_decay", "warmup_steps", "hidden_weight", "tag_weight"):
            if getattr(self, name) < 0:
                raise InputError(f"{name.replace('_', '-')} must not be negative")
        if not self.temperature > 0:
            raise InputError(f"temperature must be more than 0, not {self.temperature}")
        if not 0 <= self.teacher_weight <= 1:
            raise InputError(f"teacher-weight must be in [0, 1], not {self.teacher_weight}")
        for name in ("label_smoothing", "dropout", "token_dropout", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name.replace('_', '-')} must be in [0, 1), not {getattr(self, name)}")
        if self.select not in SELECTIONS:
            raise InputError(f"select {self.select!r} is not known: {' or '.join(SELECTIONS)}")


@dataclass(frozen=True)
class PretrainRecipe:
    """How to pre-train; `PAPER` is arXiv 2502.10001's. Raises InputError for a value that cannot be."""

    epochs: int = 5
    lr: float = 2e-3
    batch_size: int = 128
    seed: int = 0
    weight_decay: float = 0.05
    warmup_steps: int = 500
    schedule: str = "linear"  # down to 0 after the warm-up; "constant" has neither
    contrastive_weight: float = 1.0  # of telling a text's vector from its batch's, beside the cosine
    mlm_weight: float = 0.0  # of the masked tokens
    replaced_weight: float = 0.0  # of telling which tokens a generator has replaced (ELECTRA); it needs the masked ones
    save_every: int = 200  # steps between checkpoints and points of the curve

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "save_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}")
        if not self.lr > 0:
            raise InputError(f"lr must be more than 0, not {self.lr}")
        for name in ("weight_decay", "warmup_steps", "contrastive_weight", "mlm_weight", "replaced_weight"):
            if getattr(self, name) < 0:
                raise InputError(f"{name.replace('_', '-')} must not be negative")
        if self.schedule not in ("linear", "constant"):
            raise InputError(f"schedule {self.schedule!r} is not known: linear or constant")
        if self.replaced_weight and not self.mlm_weight:
            raise InputError("a replaced-weight needs an mlm-weight: a generator learns from the masked tokens")


ELECTRA = PretrainRecipe(epochs=3, batch_size=64, mlm_weight=1.0, replaced_weight=50.0)
# `train --few` by a sentence encoder: so its vectors are learned, of train's texts and this many mixed ones for each.
VECTORS, MIXED_FOR_VECTORS = PretrainRecipe(lr=1e-3, warmup_steps=50), 20
PAPER = PretrainRecipe(epochs=1, lr=2e-4, batch_size=32, schedule="constant", mlm_weight=1.0)


@dataclass(frozen=True)
class TeacherRecipe:
    """How an encoder is fine-tuned. Its token table and its first `frozen` layers stay as they are."""

    epochs: int = 3
    # of a small set more epochs, until so many steps are taken: a head of many labels learns nothing sooner
    least_steps: int = 1500
    most_epochs: int = 20
    lr: float = 1e-4
    head_times: float = 10.0  # the learning rate of the new head, of the encoder's
    batch_size: int = 32
    weight_decay: float = 0.01
    warmup_steps: int = 100
    frozen: int = 2
    longest: int = 128  # tokens of a text, in the teacher's
    seed: int = 0
