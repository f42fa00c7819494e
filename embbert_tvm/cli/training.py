"""What the commands that train have in common: options, progress, result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embbert_tvm import progress
from embbert_tvm.cli.options import DURATION, MILLISECONDS, NAMED_FILE, SIZE, plot_option
from embbert_tvm.training.recipe import EXCHANGED, NGRAM_BYTES, SELECTIONS, Recipe

if TYPE_CHECKING:
    from embbert_tvm.training.best import Teaching
    from embbert_tvm.training.candidates import Limits
    from embbert_tvm.training.finetune import Epoch
    from embbert_tvm.training.job import Job
    from embbert_tvm.training.result import Result
    from embbert_tvm.training.tune_teacher import TeacherCallbacks

PATH = click.Path(path_type=Path)


def recipe_option(
    name: str,
    help: str | None = None,
    recipe: type = Recipe,
    type: click.ParamType | None = None,
    hidden: bool = True,
) -> Callable[[Callable], Callable]:
    """An option whose default is the recipe's. hidden: whether few need it."""
    default = getattr(recipe(), name.removeprefix("--").replace("-", "_"))
    return click.option(name, default=default, show_default=True, help=help, type=type, hidden=hidden)


_POOLED = {
    "--pool-tokens": "rows of the first layer that the others read as one, their mean.",
    "--pool-keys": "rows of which each key and value of an attention is the mean.",
}


def _data_options() -> list[Callable[[Callable], Callable]]:
    """What is trained on, and from what."""
    return [
        click.argument("tsv", type=PATH),
        click.option(
            "--dev", type=PATH, metavar="TSV", help="The set that chooses the epoch. Default: a tenth of TSV."
        ),
        click.option(
            "--held-out", type=PATH, multiple=True, metavar="TSV", help="A test set: nothing is trained on its texts."
        ),
        click.option("--base", type=PATH, metavar="MODEL", help="Start from this model, as embbert-base, which ships."),
        click.option(
            "--preset",
            "--architecture",
            metavar="NAME",
            help="Of a new model: ngrams, nano, tiny, base (default), med or big.",
        ),
        click.option(
            "--max-length", type=click.IntRange(min=1), metavar="N", hidden=True, help="Tokens of the longest text."
        ),
        *(
            click.option(
                name, type=click.IntRange(min=1, max=256), metavar="N", hidden=True, help=f"Of an EmbBERT: {what}"
            )
            for name, what in _POOLED.items()
        ),
        click.option("--regression", is_flag=True, help="Labels are numbers."),
        click.option("--tokenizer", type=PATH, hidden=True, help="A tokenizer.json. Default: trained on TSV."),
        click.option(
            "--tag-layer",
            type=click.IntRange(min=1),
            hidden=True,
            help="Of a TSV with tags: the layer behind which they are read.  [default: the last but one]",
        ),
        click.option(
            "--also",
            type=NAMED_FILE,
            multiple=True,
            metavar="NAME=TSV",
            hidden=True,
            help="A further head of this name, of the labels of another TSV, on the same encoder.",
        ),
        click.option(
            "--exchanged",
            type=click.IntRange(min=0),
            default=EXCHANGED,
            show_default=True,
            hidden=True,
            help="Of a TSV with tags: new texts for each of its, the slots filled by other texts' values.",
        ),
    ]


def _choice_options() -> list[Callable[[Callable], Callable]]:
    """What is tried, and what of it is kept."""
    return [
        click.option("--budget", type=DURATION, help="Search learning rate and epochs for so long, as 10m or 1h."),
        click.option("--size-limit", type=SIZE, help="Keep the best model of at most so many bytes of flash, as 300k."),
        click.option("--time-limit", type=MILLISECONDS, help="Likewise, of so many milliseconds a text."),
        click.option(
            "--wide/--no-wide",
            "wide",
            default=None,
            hidden=True,
            help="Add the logits of hashed n-grams of the whole text. [default: where dev gains by it]",
        ),
        click.option(
            "--ngram-bytes",
            type=SIZE,
            default=NGRAM_BYTES,
            show_default=True,
            hidden=True,
            help="Of the n-grams' table: of long texts 400k may gain.",
        ),
        click.option(
            "--measure/--no-measure",
            default=True,
            show_default=True,
            hidden=True,
            help="Compile what was tried at the end, and count its instructions in QEMU.",
        ),
    ]


def training_options(command: Callable) -> Callable:
    """What is trained on, from what, and where to, and how."""
    options = [
        *_data_options(),
        recipe_option("--epochs", hidden=False),
        recipe_option("--lr", "Highest learning rate.", hidden=False),
        click.option(
            "--precision",
            metavar="NAME",
            help="Train through this precision's rounding (quantization-aware).",
        ),
        *_choice_options(),
        click.option("-o", "--output", type=PATH, required=True, metavar="MODEL", help="Model folder to write."),
        plot_option,
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout."),
        recipe_option("--batch-size"),
        recipe_option("--seed"),
        recipe_option("--weight-decay"),
        recipe_option("--warmup-steps"),
        recipe_option("--label-smoothing"),
        recipe_option("--dropout", "Of the attention weights."),
        recipe_option("--token-dropout", "Share of the tokens replaced by [UNK]."),
        recipe_option("--average", "Decay of the running mean of the weights that is kept; 0: the last weights."),
        recipe_option("--tag-weight", "Of the loss of words' tags beside that of the label."),
        recipe_option(
            "--select",
            "What of dev chooses the epoch: its metric, or its loss, which tells more where few texts are wrong.",
            type=click.Choice(SELECTIONS),
        ),
        click.option(
            "--lora",
            type=click.IntRange(min=1),
            metavar="RANK",
            hidden=True,
            help="Train only terms of this rank beside the linear weights of --base; they are merged at the end.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def command_line() -> str:
    """The command as it was given, for a model's README."""
    import shlex

    return shlex.join(["embbert-tvm", *sys.argv[1:]])


def job_options(options: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Take a job's options out of a command's. Raises UsageError for a further head that is named twice."""
    found = {name: options.pop(name) for name in names}
    also = found["also"]
    if len(dict(also)) < len(also):
        raise click.UsageError("--also: give each head a name of its own")
    return found | {"also": dict(also), "ngram_bytes": int(found["ngram_bytes"])}


def limits_of(options: dict[str, Any]) -> Limits:
    """Take the limits out of a command's options."""
    from embbert_tvm.training.candidates import Limits

    size = options.pop("size_limit")
    return Limits(None if size is None else int(size), options.pop("time_limit"))


def run_and_report(
    job: Job,
    as_json: bool,
    measure: bool,
    plot: Path | None = None,
    teaching: Teaching | None = None,
    keep: float | None = None,
) -> None:
    """Train, alone and by a teacher where there is one, show progress on stderr, print the result.

    Args:
        plot: the file that curves are drawn into.
        keep: the share of dev that is not to be none of the labels.
    """
    import json

    from embbert_tvm.errors import InputError
    from embbert_tvm.models.folder import ModelFolder, read_folder
    from embbert_tvm.report import classes, plots
    from embbert_tvm.report.training import advice, compared, curves, curves_of, recipes, tagging
    from embbert_tvm.training.best import run_best
    from embbert_tvm.training.candidates import measure_folder
    from embbert_tvm.training.finetune import TrainingCallbacks
    from embbert_tvm.training.reject import RejectOptions, fit_folder

    if job.limits and not measure:
        raise InputError("--size-limit and --time-limit need what --no-measure leaves out")
    if plot is not None:
        plots.check(plot)
    with progress.task("training", "batches") as reach:
        epochs = _Epochs(reach)
        shown = TrainingCallbacks(epochs.reach, epochs.add, progress.note)
        result = run_best(job, teaching, shown, measure_folder if measure else None, teacher_progress(reach))
    if keep is not None and job.dev is not None and isinstance(result.folder, ModelFolder):
        fitted = fit_folder(read_folder(job.output), job.dev, RejectOptions(keep=keep)).rejection
        progress.note(f"none of these where {fitted.score} is below {fitted.threshold:.6g}")
    if plot is not None:
        plots.training(plot, curves_of(result), result.best_epoch)
    if as_json:
        click.echo(json.dumps(_document(job, result)))
    else:
        if result.history:
            click.echo(f"{curves(curves_of(result))}\n")
        if result.baseline is not None:
            click.echo(f"{classes.text(result.classes, result.confused)}\n")
        if len(result.recipes) > 1:
            click.echo(f"{recipes(result)}\n")
        if result.candidates:
            click.echo(f"{compared(result)}\n")
        for rule, figures in (result.tagging or {}).items():
            click.echo(f"slots on dev by the rule {rule!r}: {tagging(figures)}")
        for name, share in result.further.items():
            click.echo(f"{name}: accuracy {100 * share:.2f} % on a tenth of its texts")
        if note := advice(result):
            click.echo(note, err=True)
        epoch = f" in epoch {result.best_epoch}" if result.history else ""
        click.echo(f"{job.output}: dev {result.metric} {result.value:.4f}{epoch}")


class _Epochs:
    """Shows the batches of epochs, dev's metric after each, and which of them is kept."""

    def __init__(self, reach: progress.Reach) -> None:
        self._reach, self._kept = reach, ""

    def reach(self, done: int, total: int) -> None:
        self._reach(done, total, self._kept)

    def add(self, epoch: Epoch) -> None:
        if epoch.best:
            self._kept = f"keeps epoch {epoch.number}, dev {epoch.dev_metric:.4f}"
        losses = f"loss {epoch.train_loss:.4f}, dev {epoch.dev_metric:.4f} (loss {epoch.dev_loss:.4f})"
        progress.note(f"epoch {epoch.number}: {losses}; {self._kept}")


def teacher_progress(reach: progress.Reach) -> TeacherCallbacks:
    """Shows a teacher's fine-tuning, and a line for each epoch."""
    from embbert_tvm.training.tune_teacher import TeacherCallbacks, TeacherEpoch

    def on_epoch(epoch: TeacherEpoch) -> None:
        progress.note(f"teacher, epoch {epoch.number}: loss {epoch.train_loss:.4f}, dev {epoch.dev_metric:.4f}")

    return TeacherCallbacks(on_epoch, lambda done, total: reach(done, total, "the teacher"), progress.note)


def _document(job: Job, result: Result) -> dict[str, Any]:
    """What `--json` prints."""
    import dataclasses

    return {
        "model": str(job.output),
        "task": result.task,
        "metric": result.metric,
        "value": result.value,
        "examples": result.examples,
        "seed": job.recipe.seed,
        "best_epoch": result.best_epoch,
        "epochs": len(result.history),
        "truncated": result.truncated,
        "accuracy": result.accuracy,
        "baseline": result.baseline
        and {"accuracy": result.baseline.dev_accuracy, "bytes": result.baseline.model.bytes},
        "classes": [dataclasses.asdict(x) for x in result.classes],
        "confused": [dataclasses.asdict(x) for x in result.confused],
        "wide_weight": result.wide_weight,
        "further": result.further,
        "tagging": result.tagging and {rule: dataclasses.asdict(x) for rule, x in result.tagging.items()},
        "candidates": [dataclasses.asdict(x) for x in result.candidates],
        "recipes": [{"lr": x.lr, "epochs": x.epochs, "value": value} for x, value in result.recipes],
    }


def need_torch() -> None:
    """Raises InputError that says what to install where torch is not there."""
    from embbert_tvm.errors import InputError

    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            "training needs torch: in a checkout `make test-venv` installs its CPU build beside the demo; elsewhere "
            f"{sys.executable} -m pip install torch==2.13.0 onnxscript (where pip would bring CUDA, with --index-url "
            "and PyTorch's index of CPU builds)"
        ) from error
