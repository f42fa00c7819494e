"""`embbert-tvm compile`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from embbert_tvm import progress

if TYPE_CHECKING:
    from embbert_tvm.api import CompileReport

_PATH = click.Path(path_type=Path)
_DEFAULT_TARGET = "cortex-m7"

# What a compilation's stages are called, and the percentages of its time that the shipped model's take.
STAGES = {
    "import tvm": ("importing TVM", 33),
    "1-imported": ("importing the model", 1),
    "2-simplified": ("simplifying", 7),
    "3-quantized": ("quantizing", 2),
    "4-fused": ("fusing", 1),
    "5-calls": ("choosing kernels", 1),
    "C": ("printing C", 4),
    "reference": ("reference vectors and sizes", 49),
    "page": ("writing the page", 2),
}


@click.command()
@click.argument("model", type=_PATH)
@click.option("--target", metavar="CPU", help=f"A CPU of targets/cpus. Default: {_DEFAULT_TARGET}.")
@click.option("--board", metavar="BOARD", help="A board of targets/boards, or a .yaml file; it must hold the package.")
@click.option(
    "--precision",
    metavar="NAME",
    help="int8 (default), int6, int4, int4-embeddings, int3, int2, ternary, fp16, fp32; mixed: each operator's own.",
)
@click.option("--budget", metavar="LIMITS", help="For mixed, as flash=300k,ram=64k,drop=0.5 (points of accuracy).")
@click.option("--dev", type=_PATH, metavar="TSV", help="For mixed and --prune-vocabulary: the set to measure on.")
@click.option("--calibration", type=_PATH, help="Texts to calibrate on: TSV, lines, or token ids (.npz, .jsonl).")
@click.option("--max-length", type=int, help="Longest text in tokens. Default: the model's.")
@click.option("--labels", metavar="FILE|A,B,C", help="Names of the classes, one a line or in a list.")
@click.option("--prune-vocabulary", type=_PATH, metavar="TSV|TXT", help="Keep only the tokens that these texts need.")
@click.option("--operators", "list_operators", is_flag=True, help="Say which kernel computes each operator, and why.")
@click.option("-o", "--output", type=_PATH, required=True, metavar="PACKAGE", help="The package to write.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@click.option("--vocabulary-size", type=click.IntRange(min=1), hidden=True, help="Most tokens of --prune-vocabulary.")
@click.option(
    "--choices", metavar="NAMES", hidden=True, help="For mixed: the precisions to choose from, as int8,int4,fp16."
)
@click.option(
    "--plan",
    type=_PATH,
    metavar="JSON",
    hidden=True,
    help="Each operator's precision, as a package's plan.json has it.",
)
@click.option(
    "--calibration-method",
    metavar="NAME",
    hidden=True,
    help="percentile, minmax, mse or kl. Default: the plan's.",
)
@click.option(
    "--rounding",
    metavar="NAME",
    hidden=True,
    help="gptq or nearest: of weights of fewer than 8 bits. Default: the plan's.",
)
@click.option(
    "--weights",
    type=click.Choice(["linked", "blob"]),
    default="linked",
    show_default=True,
    hidden=True,
    help="Constants of the firmware, or weights.bin apart from it, which a retrained model's may replace.",
)
@click.option("--prefix", default="embbert", show_default=True, hidden=True, help="What all names of the C begin with.")
@click.option("--no-tokenizer", is_flag=True, hidden=True, help="Leave out the tokenizer: the C takes token ids alone.")
@click.option("--no-tuning", is_flag=True, hidden=True, help="Leave out the target's tuned schedules.")
@click.option(
    "--row-block",
    type=click.Choice(["4", "8"]),
    hidden=True,
    help="Rows of a text that read each weight together: with 8, half as often, for more RAM. Default: as tuned, or 4.",
)
@click.option(
    "--experimental",
    is_flag=True,
    hidden=True,
    help="Take precisions that only answer a question of the paper (docs/notebook/linear-layers.md).",
)
@click.option("--dump-ir", type=_PATH, metavar="DIR", hidden=True, help="Write the module after each phase.")
def command(
    model: Path,
    target: str | None,
    board: str | None,
    precision: str | None,
    budget: str | None,
    choices: str | None,
    dev: Path | None,
    plan: Path | None,
    max_length: int | None,
    labels: str | None,
    calibration: Path | None,
    calibration_method: str | None,
    rounding: str | None,
    prune_vocabulary: Path | None,
    vocabulary_size: int | None,
    weights: str,
    prefix: str,
    no_tokenizer: bool,
    no_tuning: bool,
    row_block: str | None,
    experimental: bool,
    dump_ir: Path | None,
    list_operators: bool,
    output: Path,
    as_json: bool,
) -> None:
    """Compile MODEL, a model folder, a hub's folder or an ONNX file, to C."""
    from embbert_tvm import api
    from embbert_tvm.errors import InputError
    from embbert_tvm.report.compile import document, operators, text

    if plan is not None and precision is not None:
        raise InputError(f"--precision {precision} and --plan {plan}: give one of them")
    found = api.find_target(_DEFAULT_TARGET if target is None and board is None else target, board)
    options = api.CompileOptions(
        precision=precision or api.DEFAULT_PRECISION,
        plan=plan,
        budget=budget,
        choices=choices,
        dev=dev,
        max_length=max_length,
        calibration=calibration,
        calibration_method=calibration_method,
        rounding=rounding,
        prune_vocabulary=prune_vocabulary,
        vocabulary_size=vocabulary_size,
        weights=weights,
        prefix=prefix,
        tokenizer=not no_tokenizer,
        tuning=not no_tuning,
        row_block=None if row_block is None else int(row_block),
        experimental=experimental,
        dump_ir=dump_ir,
    )
    with progress.stages("compiling", STAGES):
        report = api.compile(api.load_model(model, labels), found, output, options, _finish).report
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(json.dumps(document(report)) if as_json else text(report, output))
    if list_operators and not as_json:
        click.echo(f"\n{operators(report)}")


def _finish(folder: Path, report: CompileReport) -> None:
    """Put the page of a package beside it, and the sizes that it shows."""
    from embbert_tvm.measuring.figures import read_figures, record
    from embbert_tvm.report.compile import document
    from embbert_tvm.report.html.page import write_page

    progress.stage("page")
    record(folder, document(report))
    write_page(read_figures(folder))
