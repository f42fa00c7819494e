"""A whole training: from a TSV to a model folder that `compile` takes."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer

from embbert_tvm import __version__
from embbert_tvm.data.corpus import corrupt, graft, read_texts, splice
from embbert_tvm.data.dataset import Example, label_list, read_examples, task_name
from embbert_tvm.data.files import folder_in_place, sha256_of, write_atomically
from embbert_tvm.data.tokenizer import load_embbert_tokenizer, tokenize, train_tokenizer
from embbert_tvm.errors import InputError
from embbert_tvm.graph.onnx_export import export_folder
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.models.config import PRESETS, ModelConfig
from embbert_tvm.models.embbert import EmbBert
from embbert_tvm.models.folder import ModelFolder, read_folder
from embbert_tvm.models.registry import build
from embbert_tvm.training.batches import UNLABELLED, TokenizedSet, tokenize_set
from embbert_tvm.training.finetune import Epoch, Progress, finetune
from embbert_tvm.training.lora import add_lora, merge_lora
from embbert_tvm.training.recipe import Recipe, TeacherRecipe
from embbert_tvm.training.record import TrainingRecord, recorded_set, write_record

if TYPE_CHECKING:
    from embbert_tvm.training.task_teacher import TeacherEpoch

CALIBRATION_TEXTS = 256
_DEV_SHARE = 10  # one example in so many is set aside where no dev set is given
_FILES = {
    "README.md", "calibration.json", "config.json", "model.onnx", "model.safetensors", "tokenizer.json",
    "training.json",
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What to train on, from what, and where to. `command` is quoted in the model's README.

    Raises InputError for grafts without donors, or donors without grafts.
    """

    train: Path
    output: Path
    recipe: Recipe
    dev: Path | None = None
    base: Path | None = None
    tokenizer: Path | None = None
    preset: str | None = None  # "base" where there is no base model
    max_length: int | None = None  # the preset's or the base model's
    regression: bool = False
    teachers: tuple[Path, ...] = ()  # classifiers fine-tuned on the same data, whose mean logits the model learns too
    unlabelled: tuple[Path, ...] = ()  # more text for the teacher to judge: plain, or TSVs whose labels are not read
    most: int | None = None  # texts of a file of those
    precision: str | None = None  # of `compile`: train through the rounding of such a package
    lora: int | None = None  # train only low-rank terms of this rank beside the linear weights, and merge them
    copies: int = 0  # texts spliced of two training texts, for each of them, for the teacher to judge
    corrupted: int = 0  # the same of texts with a few words dropped, repeated, moved or replaced
    grafted: int = 0  # the same of texts in which words of the donors take the place of some
    donors: tuple[Path, ...] = ()  # text of any kind, as `unlabelled`
    command: str = ""

    def __post_init__(self) -> None:
        if bool(self.grafted) != bool(self.donors):
            raise InputError("--grafted takes words of --donors: give both, or neither")


@dataclass(frozen=True)
class Result:
    """The trained model and how it came to be; `value` is dev's metric in the best epoch."""

    folder: ModelFolder
    task: str
    metric: str
    value: float
    examples: int
    best_epoch: int
    truncated: int
    history: list[Epoch]


def run_job(job: Job, progress: Progress | None = None) -> Result:
    """Train, export and calibrate; the folder appears whole at the end, or what was there stays.

    An interrupted job resumes after its last whole epoch when it is run again with the same data and options.
    Raises InputError, and WorkError where the training diverges or the export is wrong.
    """
    progress = progress or Progress()
    check_output(job.output)
    labels, train, dev = read_sets(job)
    model, tokenizer = _start(job, labels, train)
    max_length = model.config.max_length
    train_set = tokenize_set(tokenizer, train, labels, max_length)
    dev_set = tokenize_set(tokenizer, dev, labels, max_length)
    if job.teachers:
        train_set = _with_teachers(job, labels, train, train_set, tokenizer, model.config, progress)
    truncated = train_set.truncated + dev_set.truncated
    if truncated:
        progress.on_note(
            f"{truncated} of {len(train) + len(dev)} texts are longer than {max_length} tokens and were cut"
        )
    checkpoint = job.output.parent / f".{job.output.name}.training.safetensors"
    trained = _recovering(job, model, dev, tokenizer)
    history = finetune(trained, train_set, dev_set, job.recipe, checkpoint, progress)
    if job.lora is not None:
        merge_lora(model)
    best = [epoch for epoch in history if epoch.best][-1]
    result = Result(
        folder=ModelFolder(job.output, job.output.resolve().name, model.config, labels and tuple(labels)),
        task=task_name(job.train),
        metric="spearman" if job.regression else "mcc",
        value=best.dev_metric,
        examples=len(dev),
        best_epoch=best.number,
        truncated=truncated,
        history=history,
    )
    with folder_in_place(job.output) as path:
        written = model.save_pretrained(path, name=result.folder.name, labels=labels, tokenizer=tokenizer)
        export_folder(written)
        write_record(path, _record(job, result, train, dev))
        calibrate(written, dev)
        write_atomically(path / "README.md", _card(job, result, len(train)).encode("utf-8"))
    checkpoint.unlink(missing_ok=True)
    return result


def read_sets(job: Job) -> tuple[list[str] | None, list[Example], list[Example]]:
    """The labels, None for regression, and the train and dev sets of a job. Raises InputError."""
    examples = read_examples(job.train, regression=job.regression)
    labels = None if job.regression else label_list(examples)
    if labels is not None and len(labels) < 2:
        raise InputError(f"{job.train}: every example is labelled {labels[0]!r}, two labels are the least")
    if job.dev is not None:
        train, dev = examples, read_examples(job.dev, labels, job.regression)
    else:
        train, dev = _cut(job, examples)
    return labels, train, dev


def finetune_job_teachers(
    job: Job,
    output: Path,
    recipe: TeacherRecipe,
    seeds: int = 1,
    on_epoch: Callable[[TeacherEpoch], None] = lambda epoch: None,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Job:
    """The job with each encoder among its teachers fine-tuned on the job's own data, once with each of `seeds` seeds.

    They are kept as the folders `output`, `output-1`, ..., and one that is there is used as it is.
    Raises InputError, also for several seeds where no teacher is an encoder.
    """
    from embbert_tvm.training.task_teacher import finetune_teacher, is_encoder

    encoders = [path for path in job.teachers if is_encoder(path)]
    if seeds > 1 and not encoders:
        raise InputError(f"{job.teachers[0]}: is no encoder to fine-tune {seeds} times: leave out --teacher-seeds")
    teachers = [path for path in job.teachers if path not in encoders]
    tunings = [(encoder, seed) for encoder in encoders for seed in range(seeds)]
    kept = {
        output.with_name(f"{output.name}-{number}") if number else output: tuning
        for number, tuning in enumerate(tunings)
    }
    missing = [path for path in kept if not (path / "config.json").is_file()]
    if missing:
        check_output(job.output)
        labels, train, dev = read_sets(job)
    for path in missing:
        encoder, seed = kept[path]
        finetune_teacher(encoder, train, dev, labels, path, dataclasses.replace(recipe, seed=seed), on_epoch, on_step)
    return dataclasses.replace(job, teachers=(*teachers, *kept))


def calibrate(folder: ModelFolder, examples: Sequence[Example]) -> int:
    """Write calibration.json from at most CALIBRATION_TEXTS of the examples; gives how many it took.

    A model that was trained through its rounding is to be rounded as it was then: it gets no second moments.
    """
    from embbert_tvm.graph.calibrate import calibrate_folder

    ids = calibration_ids(examples, folder.tokenizer, folder.config.max_length)
    calibrate_folder(folder.path, ids, with_moments=folder.trained_precision is None)
    return len(ids)


def calibration_ids(examples: Sequence[Example], tokenizer: Tokenizer, max_length: int) -> list[list[int]]:
    """The texts that activations are calibrated on, as ids: at most CALIBRATION_TEXTS of the examples."""
    if len(examples) > CALIBRATION_TEXTS:
        examples = random.Random(0).sample(list(examples), CALIBRATION_TEXTS)
    return [tokenize(tokenizer, x.text, x.text_pair, max_length).ids for x in examples]


def _recovering(job: Job, model: TextClassifier, dev: Sequence[Example], tokenizer: Tokenizer) -> TextClassifier:
    """What is trained in the model's place so that it loses nothing by rounding: its parameters are the model's."""
    if job.lora is not None:
        if job.base is None:
            raise InputError("--lora trains terms beside the weights of a trained model: give --base")
        add_lora(model, job.lora)
    if job.precision is None:
        return model
    if not isinstance(model, EmbBert):
        raise InputError(f"{model.config.title}: only EmbBERT trains through its rounding: leave out --precision")
    from embbert_tvm.training.quantized import QuantizedEmbBert

    return QuantizedEmbBert(model, calibration_ids(dev, tokenizer, model.config.max_length), job.precision)


def _with_teachers(
    job: Job,
    labels: list[str] | None,
    train: Sequence[Example],
    data: TokenizedSet,
    tokenizer: Tokenizer,
    config: ModelConfig,
    progress: Progress,
) -> TokenizedSet:
    """The set with the teachers' logits, and after it the unlabelled texts, which have nothing else."""
    from embbert_tvm.training.task_teacher import Answers, cached_answers, open_teacher

    teachers = {path: open_teacher(path) for path in job.teachers}
    for path, teacher in teachers.items():
        if (teacher.labels is None) != (labels is None) or set(teacher.labels or ()) != set(labels or ()):
            raise InputError(f"{path}: knows {teacher.labels}, the data {labels}: fine-tune it on the same data")
    known = {x.text for x in train}
    # Not by the run's seed: a teacher takes longer to judge these texts than a model to learn them. It does so once.
    texts = read_texts(job.unlabelled, job.most) if job.unlabelled else []
    own = [x.text for x in train]
    texts += splice(own, job.copies) + corrupt(own, job.corrupted)
    if job.grafted:
        texts += graft(own, read_texts(job.donors), job.grafted)
    more = [Example("", text) for text in dict.fromkeys(texts) if text not in known]
    found = []
    for path, teacher in teachers.items():
        progress.on_note(f"{path} judges {len(train) + len(more)} texts")
        answers = cached_answers(teacher, [*train, *more], job.output.parent / ".teacher-answers")
        order = [0] if labels is None else [teacher.labels.index(label) for label in labels]
        found.append(Answers(answers.logits[:, order], answers.hidden))
    answers = Answers.together(found)
    encoded = [tokenize(tokenizer, x.text, None, config.max_length) for x in more]
    nothing = UNLABELLED if labels is not None else math.nan
    return TokenizedSet(
        data.ids + [x.ids for x in encoded],
        [*data.targets, *[nothing] * len(more)],
        data.truncated + sum(x.truncated for x in encoded),
        answers.logits,
        answers.turned(config.hidden_size) if job.recipe.hidden_weight else None,
    )


def check_output(path: Path) -> None:
    """InputError where the output would replace what is not a model folder."""
    if path.is_dir():
        others = sorted({entry.name for entry in path.iterdir()} - _FILES)
        if others:
            raise InputError(f"{path}: holds {others[0]}, which is no part of a model: name another output")
    elif path.exists():
        raise InputError(f"{path}: is a file, not a folder: name another output")


def _cut(job: Job, examples: list[Example]) -> tuple[list[Example], list[Example]]:
    """Train and dev of a set that comes without a dev set; the seed decides."""
    if len(examples) < 2:
        raise InputError(f"{job.train}: one example cannot be cut in train and dev: give --dev")
    order = list(range(len(examples)))
    random.Random(job.recipe.seed).shuffle(order)
    cut = set(order[: max(1, len(examples) // _DEV_SHARE)])
    train = [x for i, x in enumerate(examples) if i not in cut]
    return train, [x for i, x in enumerate(examples) if i in cut]


def _start(job: Job, labels: list[str] | None, train: Sequence[Example]) -> tuple[TextClassifier, Tokenizer]:
    """The model to train, fresh or from a base, and its tokenizer."""
    torch.manual_seed(job.recipe.seed)
    classes = 1 if labels is None else len(labels)
    if job.base is not None:
        if job.tokenizer is not None or job.preset is not None:
            raise InputError("a base model brings its own tokenizer and size: leave out --tokenizer and --preset")
        return _from_base(job, read_folder(job.base), labels, classes)
    if (job.preset or "base") not in PRESETS:
        raise InputError(f"preset {job.preset!r} is not known: choose from {', '.join(PRESETS)}")
    config = PRESETS[job.preset or "base"]
    if job.tokenizer is not None:
        tokenizer = load_embbert_tokenizer(job.tokenizer)
    else:
        texts = [text for x in train for text in (x.text, x.text_pair) if text]
        tokenizer = train_tokenizer(texts, config.vocabulary_size)
    config = dataclasses.replace(
        config, vocabulary_size=tokenizer.get_vocab_size(), max_length=job.max_length or config.max_length
    )
    return build(config, classes, job.recipe.dropout), tokenizer


def _from_base(job: Job, base: ModelFolder, labels: list[str] | None, classes: int) -> tuple[TextClassifier, Tokenizer]:
    """The base model with a new head; the old one where the labels are the same."""
    max_length = job.max_length or base.config.max_length
    if max_length > base.config.max_length:
        raise InputError(f"{base.path}: was trained for {base.config.max_length} tokens, not {max_length}")
    config = dataclasses.replace(base.config, max_length=max_length)
    model = build(config, classes, job.recipe.dropout)
    weights = TextClassifier.from_pretrained(base).state_dict()
    weights["embedder.position.weight"] = weights["embedder.position.weight"][:max_length]
    if base.labels != (labels and tuple(labels)):
        weights = {key: value for key, value in weights.items() if not key.startswith("head.")}
    model.load_state_dict(weights, strict=False)
    return model, base.tokenizer


def _record(job: Job, result: Result, train: Sequence[Example], dev: Sequence[Example]) -> TrainingRecord:
    return TrainingRecord(
        task=result.task,
        seed=job.recipe.seed,
        metric=result.metric,
        value=result.value,
        epoch=result.best_epoch,
        train=recorded_set(job.train, train),
        dev=recorded_set(job.dev or job.train, dev),
        command=job.command,
        recipe={**dataclasses.asdict(job.recipe), "precision": job.precision, "lora": job.lora},
        unlabelled=[str(path) for path in (*job.unlabelled, *job.donors)],
    )


def _card(job: Job, result: Result, examples: int) -> str:
    """The model's README.md."""
    labels = result.folder.labels
    parameters = result.folder.config.parameters
    kind = "regression" if labels is None else f"{len(labels)} classes: {', '.join(labels)}"
    lines = [
        f"# {result.folder.name}",
        "",
        f"{result.folder.config.title}, {parameters:,} parameters without its head; {kind}.",
        f"Trained by embbert-tvm {__version__}, torch {torch.__version__}, seed {job.recipe.seed}.",
        "",
        "    " + (job.command or "embbert-tvm train"),
        "",
        "| set | examples | SHA-256 of the file |",
        "|---|---|---|",
        f"| train: {job.train} | {examples:,} | {sha256_of(job.train)} |",
        f"| dev: {job.dev or 'cut from train'} | {result.examples:,} | {sha256_of(job.dev or job.train)} |",
        "",
        f"On dev, {result.metric} {result.value:.4f} in epoch {result.best_epoch}, the best of {len(result.history)}.",
    ]
    return "\n".join(lines) + "\n"
