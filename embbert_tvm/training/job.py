"""A whole training: from a TSV to a model folder that `compile` takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from embbert_tvm.data.dataset import Example, calibration_sample, task_name
from embbert_tvm.data.files import folder_in_place, write_atomically
from embbert_tvm.data.leaks import TEXTS_READ, write_text_hashes
from embbert_tvm.data.tokenizer import TextTokenizer, tokenize
from embbert_tvm.errors import InputError
from embbert_tvm.graph.onnx_export import export_folder
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.models.folder import WIDE, ModelFolder
from embbert_tvm.models.ngrams import NgramFolder
from embbert_tvm.progress import task
from embbert_tvm.training.batches import TokenizedSet, tokenize_set
from embbert_tvm.training.candidates import BOARD, Candidate, Limits, Measure, best_within, median_text
from embbert_tvm.training.few import fit_few_job
from embbert_tvm.training.finetune import TrainingCallbacks
from embbert_tvm.training.further import further_accuracies, with_further
from embbert_tvm.training.linear import LinearFit, fit_ngrams
from embbert_tvm.training.lora import add_lora, merge_lora
from embbert_tvm.training.recipe import EXCHANGED, NGRAM_BYTES, Recipe, TeacherRecipe
from embbert_tvm.training.record import TrainingRecord, recorded_set, write_record
from embbert_tvm.training.result import Result, card
from embbert_tvm.training.search import Found, Training, search
from embbert_tvm.training.selection import NGRAMS, Criteria, Variant, select, told, variants_of, weigh_head
from embbert_tvm.training.sets import JobSets, made_texts, read_sets
from embbert_tvm.training.start import start_model
from embbert_tvm.training.tagging import BOTH, choose_rule
from embbert_tvm.training.teacher import teacher_name

if TYPE_CHECKING:
    from embbert_tvm.training.tune_teacher import TeacherCallbacks

_EXAMPLE_CHARACTERS = 80
_FILES = {
    "README.md", "calibration.json", "config.json", "model.onnx", "model.safetensors", "texts-read.xz",
    "tokenizer.json", "training.json", WIDE,
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What to train on, from what, and where to. `command` is quoted in the model's README.

    Raises InputError for word spans to replace without auxiliary text, or that without those, and for what does not go
    with `few`.
    """

    train: Path
    output: Path
    recipe: Recipe
    dev: Path | None = None
    base: Path | None = None
    tokenizer: Path | None = None
    preset: str | None = None  # "base" where there is no base model
    max_length: int | None = None  # the preset's or the base model's
    pool_tokens: int | None = None  # rows of an EmbBERT's first layer that the others read as one; as max_length
    pool_keys: int | None = None  # rows of which each of an EmbBERT's keys is the mean; as max_length
    regression: bool = False
    # Classifiers fine-tuned on the same data, whose mean logits the model learns too; with `few` a sentence encoder,
    # whose vectors of the texts the model learns first.
    teachers: tuple[Path, ...] = ()
    weak_teachers: bool = False  # whether those teach too that dev says are worse than the linear model
    unlabelled: tuple[Path, ...] = ()  # more text for the teacher to label: plain, or TSVs whose labels are not read
    most: int | None = None  # texts of a file of those
    precision: str | None = None  # of `compile`: train through the rounding of such a package
    tag_layer: int | None = None  # behind how many layers tags are read; None: all but the last of an EmbBERT
    few: bool = False  # fit a head alone, on the encoder of `base`, and without a dev set on all texts
    also: Mapping[str, Path] = field(default_factory=dict)  # by the names of further heads, TSVs of their labels
    exchanged: int = EXCHANGED  # new texts for each, of a set with tags, whose slots are filled by other texts' values
    lora: int | None = None  # train only low-rank terms of this rank beside the linear weights, and merge them
    mixed: int = 0  # new texts for each, of its start and the end of another, for the teacher to label
    noised: int = 0  # the same of texts with a few words dropped, repeated, moved or replaced
    replaced: int = 0  # the same of texts in which words of auxiliary texts replace some
    auxiliary: tuple[Path, ...] = ()  # text of any kind, as `unlabelled`
    wide: bool | None = None  # whether hashed n-grams are added to the model; None: where dev gains by them
    ngram_bytes: int = NGRAM_BYTES  # of the n-grams' table
    budget: float | None = None  # seconds for a search of learning rate and epochs; None: the recipe as it is
    limits: Limits = field(default_factory=Limits)
    held_out: tuple[Path, ...] = ()  # TSVs, beside dev, whose texts nothing may be trained on: the test sets
    command: str = ""

    def __post_init__(self) -> None:
        if bool(self.replaced) != bool(self.auxiliary):
            raise InputError("--replaced takes words of --auxiliary: give both, or neither")
        if self.few and self.base is None:
            raise InputError("--few fits a head on the encoder of a base model: give --base, as embbert-base")
        others = self.given("--regression", "--precision", "--lora", "--also", "--budget", "--ngram-bytes")
        if self.few and others:
            raise InputError(f"--few fits a head alone: leave out {others[0]}")

    @property
    def crossed(self) -> bool:
        """Whether train is dev too: each text is told by a fit without it."""
        return self.few and self.dev is None

    def given(self, *names: str) -> list[str]:
        """Those of these options that the job has."""
        values = {
            "--regression": self.regression, "--precision": self.precision, "--lora": self.lora, "--also": self.also,
            "--budget": self.budget, "--ngram-bytes": self.ngram_bytes != NGRAM_BYTES, "teachers": self.teachers,
        }  # fmt: skip
        return [name for name in names if values[name]]


def run_job(job: Job, progress: TrainingCallbacks | None = None, measure: Measure | None = None) -> Result:
    """Train, export and calibrate; the folder appears whole at the end, or what was there stays.

    Hashed n-grams are fitted first, and added to the model where dev gains by them. An interrupted job resumes after
    its last whole epoch when it is run again with the same data and options.

    measure: what tells a model folder's cost, which the job's limits need. Raises InputError, and WorkError where the
    training diverges, the export is wrong, or nothing is within the limits.
    """
    progress = progress or TrainingCallbacks()
    check_output(job.output)
    sets = read_sets(job)
    for note in sets.notes(job.train):
        progress.on_note(note)
    if job.preset == NGRAMS:
        return _ngrams_only(job, sets, progress, measure)
    model, tokenizer = start_model(job, sets)
    baseline = None if job.few else _baseline(job, sets, progress)
    config = model.config
    more, left_out = made_texts(job, sets)
    labelled = [*sets.train, *(x for x in more if x.label)]
    train_set = tokenize_set(tokenizer, labelled, sets.labels, config.max_length, sets.tags)
    train_set = with_further(train_set, sets.further, tokenizer, config.max_length)
    dev_set = tokenize_set(tokenizer, sets.dev, sets.labels, config.max_length, sets.tags)
    if job.teachers and not job.few:
        from embbert_tvm.training.taught import told_by_teachers, with_answers

        told = told_by_teachers(job, sets, more, baseline, progress)
        train_set = with_answers(train_set, told, tokenizer, config, bool(job.recipe.hidden_weight))
    sets = dataclasses.replace(sets, left_out=sets.left_out | left_out)
    truncated = train_set.truncated + dev_set.truncated
    if truncated:
        texts = len(sets.train) + len(sets.dev)
        progress.on_note(f"{truncated} of {texts} texts are longer than {config.max_length} tokens and were cut")
    if job.few:
        fit = fit_few_job(job, sets, more, model, tokenizer, [*train_set.ids, *dev_set.ids])
        found, baseline = Found(model, job.recipe, [], fit.logits, [], ()), fit.baseline
    else:
        found = _searched(job, sets, tokenizer, train_set, dev_set, progress)
    result = _result(job, sets, found, dev_set, baseline, truncated)
    further = further_accuracies(found.model, sets.further, tokenizer)
    result = dataclasses.replace(result, further=further)
    variants = _variants(job, sets, found, baseline)
    progress.on_note("exporting to ONNX, and calibrating on dev")
    with folder_in_place(job.output) as path:
        written = found.model.save_pretrained(path, name=result.folder.name, labels=sets.labels, tokenizer=tokenizer)
        with task("exporting"):
            export_folder(written)
        write_record(path, _record(job, result, sets))  # which calibration reads
        calibrate(written, sets.dev)
        if measure is not None:
            progress.on_note(f"compiling for {BOARD}, and counting instructions")
        criteria = Criteria(job.limits, measure, median_text(sets.dev), job.wide, progress.on_note)
        result = _selected(result, sets, variants, path, criteria)
        _write_about(path, job, result, sets, more)
    found.clean_up()
    return result


def _result(
    job: Job, sets: JobSets, found: Found, dev_set: TokenizedSet, baseline: LinearFit | None, truncated: int
) -> Result:
    """What there is to tell of the model that was found, before any is chosen in its place."""
    best = next((epoch for epoch in reversed(found.history) if epoch.best), None)
    tagging, name = choose_rule(found.model, dev_set), job.output.resolve().name
    return Result(
        folder=ModelFolder(
            job.output, name, found.model.config, sets.labels and tuple(sets.labels), more=found.model.more
        ),
        task=task_name(job.train),
        metric="spearman" if job.regression else "mcc" if tagging is None else BOTH,
        value=0.0 if best is None else best.dev_metric,
        examples=len(sets.dev),
        recipe=found.recipe,
        best_epoch=0 if best is None else best.number,
        truncated=truncated,
        history=found.history,
        baseline=baseline,
        recipes=found.tried,
        tagging=tagging,
    )


def _searched(
    job: Job,
    sets: JobSets,
    tokenizer: TextTokenizer,
    train: TokenizedSet,
    dev: TokenizedSet,
    progress: TrainingCallbacks,
) -> Found:
    """The model that dev prefers of those that the job's recipe and budget give."""

    def start(recipe: Recipe) -> tuple[TextClassifier, TextClassifier]:
        made, _ = start_model(dataclasses.replace(job, recipe=recipe), sets)
        return made, _recovering(job, made, sets.dev, tokenizer)

    checkpoint = job.output.parent / f".{job.output.name}.training.safetensors"
    finish = merge_lora if job.lora is not None else lambda model: None
    return search(job.recipe, job.budget, Training(start, finish, train, dev, checkpoint), progress)


def _variants(job: Job, sets: JobSets, found: Found, baseline: LinearFit | None) -> list[Variant]:
    """The n-grams, the model that was found, and both together; none where there are no labels."""
    if baseline is None or sets.labels is None:
        return []
    variants = variants_of(found.model.config.title, found.dev_logits, sets.expected, baseline, job.wide)
    weigh_head(found.model, variants, job.wide)
    return variants


def _selected(result: Result, sets: JobSets, variants: Sequence[Variant], path: Path, criteria: Criteria) -> Result:
    """The model in `path`, with n-grams beside it or in its place, whatever dev and the limits prefer."""
    assert isinstance(result.folder, ModelFolder)
    if not variants:
        candidates = [Candidate(result.folder.config.title, result.value, criteria.cost(path))]
        best_within(candidates, criteria.limits)
        return dataclasses.replace(result, candidates=candidates, kept=candidates[0])
    assert sets.labels is not None
    chosen, candidates = select(path, result.folder.name, variants, criteria)
    return told(result, chosen, candidates, sets.expected, sets.labels)


def _ngrams_only(job: Job, sets: JobSets, progress: TrainingCallbacks, measure: Measure | None) -> Result:
    """A folder of hashed n-grams and nothing else."""
    if job.base is not None or job.tokenizer is not None or job.teachers or job.precision or job.lora:
        raise InputError(
            "--preset ngrams has no tokens: leave out --base, --tokenizer, --precision, --lora and teachers"
        )
    baseline = _baseline(job, sets, progress)
    if baseline is None or sets.labels is None:
        raise InputError("--preset ngrams tells labels, no numbers: leave out --regression, or take another preset")
    name = job.output.resolve().name
    folder = NgramFolder(job.output, name, baseline.model)
    result = Result(folder, task_name(job.train), "mcc", 0.0, len(sets.dev), job.recipe, baseline=baseline)
    only_ngrams = Variant(Candidate(NGRAMS, baseline.dev_accuracy), baseline.dev_logits, baseline.model, tokens=False)
    with folder_in_place(job.output) as path:
        criteria = Criteria(job.limits, measure, median_text(sets.dev), on_note=progress.on_note)
        chosen, candidates = select(path, name, [only_ngrams], criteria)
        result = told(result, chosen, candidates, sets.expected, sets.labels)
        _write_about(path, job, result, sets, [])
    return result


def _write_about(path: Path, job: Job, result: Result, sets: JobSets, more: Sequence[Example]) -> None:
    """What a model's folder tells of its training: hashes of its texts, training.json and the card."""
    read = [*sets.train, *more, *(x for one in sets.further for x in one.train)]
    write_text_hashes(path / TEXTS_READ, (t for x in read for t in (x.text, x.text_pair) if t))
    record = _record(job, result, sets)
    write_record(path, record)
    write_atomically(path / "README.md", card(result, record, _dev_is(job)).encode("utf-8"))


def _dev_is(job: Job) -> str | None:
    """What dev is, where no file was given."""
    if job.dev is not None:
        return None
    return "train, each text by a fit without it" if job.crossed else "cut from train"


def _baseline(job: Job, sets: JobSets, progress: TrainingCallbacks) -> LinearFit | None:
    """Hashed n-grams with a linear classifier on the same sets: what a larger model has to beat."""
    if sets.labels is None:
        return None
    with task("fitting the linear model"):
        fit = fit_ngrams(sets.train, sets.dev, sets.labels, table_bytes=job.ngram_bytes)
    progress.on_note(
        f"ngrams, a linear model of {fit.model.bytes / 1000:.0f} kB: {100 * fit.dev_accuracy:.2f} % on dev"
    )
    return fit


def finetune_job_teachers(
    job: Job, output: Path, recipe: TeacherRecipe, seeds: int = 1, progress: TeacherCallbacks | None = None
) -> Job:
    """The job with each encoder among its teachers fine-tuned on the job's own data, once with each of `seeds` seeds.

    They are kept as the folders `output`, `output-1`, ..., and those of words' tags, where the data has such, as
    `output-tags`, ...; one that is there is used as it is.
    Raises InputError, also for several seeds where no teacher is an encoder.
    """
    from embbert_tvm.training.task_teacher import is_encoder
    from embbert_tvm.training.teacher_goals import goals_of
    from embbert_tvm.training.tune_teacher import finetune_teacher

    encoders = [path for path in job.teachers if is_encoder(path)]
    if seeds > 1 and not encoders:
        raise InputError(f"{job.teachers[0]}: is not an encoder to fine-tune {seeds} times: leave out --teacher-seeds")
    teachers = [path for path in job.teachers if path not in encoders]
    if not encoders:
        return job
    check_output(job.output)
    kept: list[Path] = []
    for name, goal in goals_of(read_sets(job)).items():
        for number, (encoder, seed) in enumerate((encoder, seed) for encoder in encoders for seed in range(seeds)):
            path = output.with_name(f"{output.name}{name}-{number}" if number else f"{output.name}{name}")
            kept.append(path)
            if not (path / "config.json").is_file():
                finetune_teacher(encoder, goal, path, dataclasses.replace(recipe, seed=seed), progress)
    return dataclasses.replace(job, teachers=(*teachers, *kept))


def calibrate(folder: ModelFolder, examples: Sequence[Example]) -> int:
    """Write calibration.json from `calibration_sample` of the examples; gives how many it took.

    A model that was trained through its rounding is to be rounded as it was then: it gets no second moments.
    """
    from embbert_tvm.graph.float_tensors import calibrate_folder

    ids = calibration_ids(examples, folder.tokenizer, folder.config.max_length)
    calibrate_folder(folder.path, ids, with_second_moments=folder.trained_precision is None)
    return len(ids)


def calibration_ids(examples: Sequence[Example], tokenizer: TextTokenizer, max_length: int) -> list[list[int]]:
    """The texts that activations are calibrated on, as ids."""
    return [tokenize(tokenizer, x.text, x.text_pair, max_length).ids for x in calibration_sample(examples)]


def _recovering(job: Job, model: TextClassifier, dev: Sequence[Example], tokenizer: TextTokenizer) -> TextClassifier:
    """What is trained in the model's place so that it loses nothing by rounding: its parameters are the model's."""
    if job.lora is not None:
        if job.base is None:
            raise InputError("--lora trains terms beside the weights of a trained model: give --base")
        add_lora(model, job.lora)
    if job.precision is None:
        return model
    from embbert_tvm.training.quantized import QuantizedClassifier

    return QuantizedClassifier(model, calibration_ids(dev, tokenizer, model.config.max_length), job.precision)


def check_output(path: Path) -> None:
    """InputError where the output would replace what is not a model folder."""
    if path.is_dir():
        others = sorted({entry.name for entry in path.iterdir()} - _FILES)
        if others:
            raise InputError(f"{path}: holds {others[0]}, which is not part of a model: name another output")
    elif path.exists():
        raise InputError(f"{path}: is a file, not a folder: name another output")


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
        recipe={
            **dataclasses.asdict(result.recipe),
            "precision": job.precision,
            "lora": job.lora,
            "teachers": [teacher_name(path) for path in job.teachers],
        },
        unlabelled=[str(path) for path in (*job.unlabelled, *job.auxiliary)],
        baseline=result.baseline
        and {
            "ngrams_bytes": result.baseline.model.bytes,
            "accuracy": result.baseline.dev_accuracy,
            "strength": result.baseline.strength,
        },
        held_out=sets.files,
        left_out=sets.left_out,
        further=[
            {
                "name": one.head.name,
                **dataclasses.asdict(recorded_set(job.also[one.head.name], one.train)),
                "accuracy": result.further[one.head.name],
            }
            for one in sets.further
        ],
        wide_weight=result.wide_weight,
        example=shorten(median_text(sets.dev).text, _EXAMPLE_CHARACTERS, placeholder="") or None,
        tried=[{"lr": recipe.lr, "epochs": recipe.epochs, "value": value} for recipe, value in result.recipes],
    )
