"""A whole training: from a TSV to a model folder that `compile` takes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer

from embbert_tvm.data import metrics
from embbert_tvm.data.dataset import Example, calibration_sample, task_name
from embbert_tvm.data.files import folder_in_place, write_atomically
from embbert_tvm.data.leaks import TEXTS_READ, write_text_hashes
from embbert_tvm.data.tokenizer import load_embbert_tokenizer, tokenize, train_tokenizer
from embbert_tvm.errors import InputError
from embbert_tvm.graph.onnx_export import export_folder
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.models.config import PRESETS, ModelConfig
from embbert_tvm.models.embbert import EmbBert
from embbert_tvm.models.folder import ModelFolder, find_model, read_folder
from embbert_tvm.models.registry import build, load_classifier
from embbert_tvm.training.batches import UNLABELLED, TokenizedSet, tokenize_set
from embbert_tvm.training.classes import ClassFigures, Confusion, class_figures, confusions
from embbert_tvm.training.finetune import Epoch, Progress, finetune, predict
from embbert_tvm.training.linear import LinearFit, fit_ngrams
from embbert_tvm.training.lora import add_lora, merge_lora
from embbert_tvm.training.recipe import Recipe, TeacherRecipe
from embbert_tvm.training.record import TrainingRecord, recorded_set, write_record
from embbert_tvm.training.sets import JobSets, more_texts, read_sets
from embbert_tvm.version import __version__

if TYPE_CHECKING:
    from embbert_tvm.training.task_teacher import TeacherEpoch

_FILES = {
    "README.md", "calibration.json", "config.json", "model.onnx", "model.safetensors", "texts-read.xz",
    "tokenizer.json", "training.json",
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
    held_out: tuple[Path, ...] = ()  # TSVs, beside dev, whose texts nothing may be trained on: the test sets
    command: str = ""

    def __post_init__(self) -> None:
        if bool(self.grafted) != bool(self.donors):
            raise InputError("--grafted takes words of --donors: give both, or neither")


@dataclass(frozen=True)
class Result:
    """The trained model and how it came to be; `value` is dev's metric in the best epoch.

    Of a classifier dev's accuracy, per-class figures and most confused pairs; `baseline` is what hashed n-grams with a
    linear classifier give (training/linear.py), None for regression.
    """

    folder: ModelFolder
    task: str
    metric: str
    value: float
    examples: int
    best_epoch: int
    truncated: int
    history: list[Epoch]
    baseline: LinearFit | None = None
    accuracy: float | None = None
    classes: list[ClassFigures] = field(default_factory=list)
    confused: list[Confusion] = field(default_factory=list)


def run_job(job: Job, progress: Progress | None = None) -> Result:
    """Train, export and calibrate; the folder appears whole at the end, or what was there stays.

    An interrupted job resumes after its last whole epoch when it is run again with the same data and options.
    Raises InputError, and WorkError where the training diverges or the export is wrong.
    """
    progress = progress or Progress()
    check_output(job.output)
    sets = read_sets(job)
    labels, train, dev = sets.labels, sets.train, sets.dev
    for note in sets.notes(job.train):
        progress.on_note(note)
    model, tokenizer = _start(job, labels, train)
    baseline = _baseline(sets, progress)
    max_length = model.config.max_length
    train_set = tokenize_set(tokenizer, train, labels, max_length)
    dev_set = tokenize_set(tokenizer, dev, labels, max_length)
    more: list[Example] = []
    if job.teachers:
        more, left_out = more_texts(job, sets)
        train_set = _with_teachers(job, sets, more, train_set, tokenizer, model.config, progress)
        sets = dataclasses.replace(sets, left_out=sets.left_out | left_out)
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
        baseline=baseline,
        **_dev_figures(trained, dev_set, labels),
    )
    progress.on_note("exporting to ONNX, and calibrating on dev")
    with folder_in_place(job.output) as path:
        written = model.save_pretrained(path, name=result.folder.name, labels=labels, tokenizer=tokenizer)
        export_folder(written)
        record = _record(job, result, sets)
        write_record(path, record)
        texts = (text for x in [*train, *more] for text in (x.text, x.text_pair) if text)
        write_text_hashes(path / TEXTS_READ, texts)
        calibrate(written, dev)
        write_atomically(path / "README.md", _card(job, result, record).encode("utf-8"))
    checkpoint.unlink(missing_ok=True)
    return result


def _baseline(sets: JobSets, progress: Progress) -> LinearFit | None:
    """Hashed n-grams with a linear classifier on the same sets: what a larger model has to beat."""
    if sets.labels is None:
        return None
    fit = fit_ngrams(sets.train, sets.dev, sets.labels)
    progress.on_note(
        f"ngrams, a linear model of {fit.model.bytes / 1000:.0f} kB: {100 * fit.dev_accuracy:.2f} % on dev"
    )
    return fit


def _dev_figures(model: TextClassifier, dev: TokenizedSet, labels: list[str] | None) -> dict[str, Any]:
    if labels is None:
        return {}
    logits, expected, _ = predict(model, dev)
    predicted = logits.argmax(1)
    return {
        "accuracy": metrics.accuracy(expected, predicted),
        "classes": class_figures(expected, predicted, labels),
        "confused": confusions(expected, predicted, labels),
    }


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
        sets = read_sets(job)
    for path in missing:
        encoder, seed = kept[path]
        seeded = dataclasses.replace(recipe, seed=seed)
        finetune_teacher(encoder, sets.train, sets.dev, sets.labels, path, seeded, on_epoch, on_step)
    return dataclasses.replace(job, teachers=(*teachers, *kept))


def calibrate(folder: ModelFolder, examples: Sequence[Example]) -> int:
    """Write calibration.json from `calibration_sample` of the examples; gives how many it took.

    A model that was trained through its rounding is to be rounded as it was then: it gets no second moments.
    """
    from embbert_tvm.graph.float_tensors import calibrate_folder

    ids = calibration_ids(examples, folder.tokenizer, folder.config.max_length)
    calibrate_folder(folder.path, ids, with_moments=folder.trained_precision is None)
    return len(ids)


def calibration_ids(examples: Sequence[Example], tokenizer: Tokenizer, max_length: int) -> list[list[int]]:
    """The texts that activations are calibrated on, as ids."""
    return [tokenize(tokenizer, x.text, x.text_pair, max_length).ids for x in calibration_sample(examples)]


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
    sets: JobSets,
    more: Sequence[Example],
    data: TokenizedSet,
    tokenizer: Tokenizer,
    config: ModelConfig,
    progress: Progress,
) -> TokenizedSet:
    """The set with the teachers' logits, and after it `more`, unlabelled texts, which have nothing else."""
    from embbert_tvm.training.task_teacher import Answers, cached_answers, open_teacher

    labels, train = sets.labels, sets.train
    teachers = {path: open_teacher(path) for path in job.teachers}
    for path, teacher in teachers.items():
        if (teacher.labels is None) != (labels is None) or set(teacher.labels or ()) != set(labels or ()):
            raise InputError(f"{path}: knows {teacher.labels}, the data {labels}: fine-tune it on the same data")
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


def _start(job: Job, labels: list[str] | None, train: Sequence[Example]) -> tuple[TextClassifier, Tokenizer]:
    """The model to train, fresh or from a base, and its tokenizer."""
    torch.manual_seed(job.recipe.seed)
    classes = 1 if labels is None else len(labels)
    if job.base is not None:
        if job.tokenizer is not None or job.preset is not None:
            raise InputError("a base model brings its own tokenizer and size: leave out --tokenizer and --preset")
        return _from_base(job, read_folder(find_model(job.base)), labels, classes)
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
    weights = load_classifier(base).state_dict()
    weights["embedder.position.weight"] = weights["embedder.position.weight"][:max_length]
    if base.labels != (labels and tuple(labels)):
        weights = {key: value for key, value in weights.items() if not key.startswith("head.")}
    model.load_state_dict(weights, strict=False)
    return model, base.tokenizer


def _record(job: Job, result: Result, sets: JobSets) -> TrainingRecord:
    return TrainingRecord(
        task=result.task,
        seed=job.recipe.seed,
        metric=result.metric,
        value=result.value,
        epoch=result.best_epoch,
        train=recorded_set(job.train, sets.train),
        dev=recorded_set(job.dev or job.train, sets.dev),
        command=job.command,
        recipe={**dataclasses.asdict(job.recipe), "precision": job.precision, "lora": job.lora},
        unlabelled=[str(path) for path in (*job.unlabelled, *job.donors)],
        baseline=result.baseline
        and {
            "ngrams_bytes": result.baseline.model.bytes,
            "accuracy": result.baseline.dev_accuracy,
            "strength": result.baseline.strength,
        },
        held_out=sets.files,
        left_out=sets.left_out,
    )


def _card(job: Job, result: Result, record: TrainingRecord) -> str:
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
        "| set | examples | SHA-256 of the examples, as in training.json |",
        "|---|---|---|",
        f"| train: {job.train} | {record.train.examples:,} | {record.train.sha256} |",
        f"| dev: {job.dev or 'cut from train'} | {record.dev.examples:,} | {record.dev.sha256} |",
        "",
        f"On dev, {result.metric} {result.value:.4f} in epoch {result.best_epoch}, the best of {len(result.history)}.",
    ]
    if result.baseline is not None:
        fit = result.baseline
        lines += [
            f"Accuracy on dev {100 * result.accuracy:.2f} %; of a linear model on hashed n-grams, "
            f"{fit.model.bytes / 1000:.0f} kB, {100 * fit.dev_accuracy:.2f} %."
        ]
    return "\n".join(lines) + "\n"
