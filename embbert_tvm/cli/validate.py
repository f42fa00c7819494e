"""embbert-tvm validate: compare a compiled package with its float model on labelled text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embbert_tvm.cli.options import place_option, plot_option, timeout_option

if TYPE_CHECKING:
    from embbert_tvm.data.dataset import Example
    from embbert_tvm.device.locate import Difference
    from embbert_tvm.device.package import Package
    from embbert_tvm.device.validate import Validation


@click.command("validate")
@click.argument("package", type=click.Path())
@click.option("--data", type=click.Path(), metavar="TSV", help="Labelled text; .gz and .xz are read as they are.")
@place_option
@click.option(
    "--against",
    metavar="host|float|PLACE",
    help="Name the first operator whose output differs from that of the host, of the float model or of a place.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Use only the first N examples.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="TSV to write: label, answer, probability and text of each example.",
)
@timeout_option
@plot_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    package: str,
    data: str | None,
    place: str,
    against: str | None,
    limit: int | None,
    output: Path | None,
    timeout: float | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Run the compiled PACKAGE and its float model on labelled text, and compare them.

    With --against, the outputs of each operator are compared, on the texts of --data or on synthetic token ids.
    """
    if against is not None:
        _locate(package, data, place, against, limit, as_json)
        return
    if data is None:
        raise click.UsageError("Missing option '--data'.")
    from embbert_tvm.data.predictions import write_predictions
    from embbert_tvm.device.package import load_package
    from embbert_tvm.device.validate import validate
    from embbert_tvm.errors import InputError, WorkError
    from embbert_tvm.heads import ONE_LABEL, REGRESSION
    from embbert_tvm.report import classes, plots

    if plot is not None:
        plots.check(plot)
    opened = load_package(package)
    if output is not None and opened.head not in (ONE_LABEL, REGRESSION):
        raise InputError(f"--output {output}: writes a label or a value a text, and the model gives {opened.head}")
    examples = _examples(opened, Path(data))[:limit]
    result = validate(opened, examples, place, timeout)
    if result.truncated:
        click.echo(f"{result.truncated} texts are longer than the model takes and were cut", err=True)
    if result.unknown:
        click.echo(classes.unknown(result.unknown), err=True)
    if output is not None:
        write_predictions(output, result.predictions)
    if plot is not None:
        plots.answers(plot, result.predictions)
    bits = result.comparison
    click.echo(json.dumps(_figures(result, place)) if as_json else _shown(result, place))
    if result.tokenized.first_failure:
        failed = result.tokenized.checked - result.tokenized.equal
        words = f"{failed} of {result.tokenized.checked} texts have other token ids on {place} than here"
        raise WorkError(f"{words}, {result.tokenized.first_failure} first")
    if bits.first_failure:
        failed = bits.checked - bits.passed
        raise WorkError(f"{failed} of {bits.checked} runs do not give the logits they should: {bits.first_failure}")


def _figures(result: Validation, place: str) -> dict[str, Any]:
    """The JSON."""
    from dataclasses import asdict

    bits = result.comparison
    return {
        "examples": result.examples,
        "accuracy_float": result.accuracy_float,
        "accuracy_compiled": result.accuracy_compiled,
        "agreement": result.agreement,
        "metric": result.metric,
        "on": place,
        "bit_exact": {"checked": bits.checked, "equal": bits.equal},
        "tokenizer": {"checked": result.tokenized.checked, "equal": result.tokenized.equal},
        "stack_bytes": result.stack,
        "truncated": result.truncated,
        "unknown": result.unknown,
        "classes": [asdict(x) for x in result.classes],
        "confused": [asdict(x) for x in result.confused],
        "tagging": result.tagging_float
        and result.tagging_compiled
        and {"float": asdict(result.tagging_float), "compiled": asdict(result.tagging_compiled)},
    }


def _shown(result: Validation, place: str) -> str:
    """The figures for a person."""
    from embbert_tvm.report import classes

    bits, lines = result.comparison, []
    if result.classes:
        lines.append(f"{classes.text(result.classes, result.confused)}\n")
    lines.append(f"{result.examples} examples, on {place}")
    if result.metric is not None:
        lines.append(f"{result.metric:10} float {result.accuracy_float:.4f}, compiled {result.accuracy_compiled:.4f}")
    for name, tagged in (("float", result.tagging_float), ("compiled", result.tagging_compiled)):
        if tagged is not None:
            both = f"label and all slots right of {100 * tagged.both:.1f} %"
            lines.append(f"slots      {name} F1 {tagged.entity_f1:.4f}, {both}")
    lines.append(f"agreement  {result.agreement:.4f}")
    lines.append(f"bit-exact  {bits.equal} of {bits.checked} runs")
    if result.tokenized.checked:
        lines.append(f"tokenizer  {result.tokenized.equal} of {result.tokenized.checked} texts to the library's ids")
    if result.stack is not None:
        lines.append(f"stack      {result.stack:,} bytes at the deepest, the protocol server's included")
    return "\n".join(lines)


def _examples(package: Package, path: Path) -> list[Example]:
    """The examples of a set. For labels of tokens and vectors the texts alone count, which may stand a line each."""
    from embbert_tvm.data.dataset import Example, check_labels, read_columns, read_examples
    from embbert_tvm.data.files import read_lines
    from embbert_tvm.errors import InputError
    from embbert_tvm.heads import MANY_LABELS, ONE_LABEL, REGRESSION

    if package.head in (ONE_LABEL, REGRESSION):
        examples = read_examples(path, regression=package.answers is None)
        check_labels(str(path), examples, package.answers)
        return examples
    if package.head == MANY_LABELS or read_columns(path) is not None:
        examples = read_examples(path)
    else:
        examples = [Example("", line.strip()) for line in read_lines(path) if line.strip()]
    if package.head == MANY_LABELS:
        known = package.answers or ()
        wrong = next((x.label for x in examples if not set(x.label.split(",")) <= {*known, ""}), None)
        if wrong is not None:
            raise InputError(f"{path}: labels {wrong!r} are not the model's, which knows {', '.join(sorted(known))}")
    if not examples:
        raise InputError(f"{path}: holds no text")
    return examples


LOCATE_TEXTS = 4


def _locate(package: str, data: str | None, place: str, against: str, limit: int | None, as_json: bool) -> None:
    from dataclasses import asdict

    from embbert_tvm.data.tokenizer import encode, load_tokenizer
    from embbert_tvm.device.locate import against_float, against_place
    from embbert_tvm.device.package import load_package
    from embbert_tvm.device.profile import synthetic_ids
    from embbert_tvm.errors import WorkError

    opened = load_package(package)
    if data is None:
        lengths = sorted({min(n, opened.max_length) for n in (1, 2, 31, 64)})
        texts = [synthetic_ids(opened, length) for length in lengths][:limit]
    else:
        examples = _examples(opened, Path(data))[: limit or LOCATE_TEXTS]
        tokenizer = load_tokenizer(opened.tokenizer, opened.vocabulary)
        texts = [encode(tokenizer, e.text, e.text_pair, opened.max_length) for e in examples]
    if against == "float":
        from embbert_tvm.graph.float_tensors import float_tensors

        names = {o.origin for o in opened.outputs if o.origin is not None}
        found = against_float(opened, texts, place, float_tensors(opened.reference_model, names))
    else:
        found = against_place(opened, texts, place, against)
    if as_json:
        click.echo(json.dumps(asdict(found)))
    else:
        click.echo(f"{found.outputs} outputs of {len(opened.steps)} steps, {found.examples} texts, on {place}")
        if found.worst is not None:
            worst = found.worst
            click.echo(f"largest difference from {against}: {worst.step}, {worst.rms:.1%} root mean square")
    if found.first is not None:
        raise WorkError(_described(found.first, against))


def _described(first: Difference, against: str) -> str:
    lsb = "" if first.lsb is None else f", {first.lsb:.4g} LSB"
    return (
        f"the first operator that differs from {against} is {first.step} ({first.kernel}): text {first.example} of "
        f"{first.tokens} tokens, element {first.element} is {first.found:.6g}, not {first.expected:.6g} (absolute "
        f"{first.absolute:.4g}, relative {first.relative:.4g}{lsb}); {first.differing} of {first.elements} differ"
    )
