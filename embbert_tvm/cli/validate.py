"""embbert-tvm validate: compare a compiled package with its float model on labelled text."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command("validate")
@click.argument("package", type=click.Path())
@click.option(
    "--data", required=True, type=click.Path(), help="TSV of labelled text; .gz and .xz are read as they are."
)
@click.option("--on", "place", default="host", show_default=True, help="host, qemu, qemu:BOARD or serial:PORT[@BAUD]")
@click.option("--limit", type=click.IntRange(min=1), help="Use only the first N examples.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(package: str, data: str, place: str, limit: int | None, as_json: bool) -> None:
    """Run the compiled PACKAGE and its float model on labelled text and compare them."""
    from tqdm import tqdm

    from embbert_tvm.data.dataset import read_examples
    from embbert_tvm.device.package import load_package
    from embbert_tvm.device.validate import validate
    from embbert_tvm.errors import WorkError

    opened = load_package(package)
    examples = read_examples(Path(data), opened.labels, regression=opened.labels is None)[:limit]
    quiet = not sys.stderr.isatty()
    result = validate(opened, examples, place, lambda items: tqdm(items, unit="text", leave=False, disable=quiet))
    bits = result.comparison
    figures = {
        "examples": result.examples,
        "accuracy_float": result.accuracy_float,
        "accuracy_compiled": result.accuracy_compiled,
        "agreement": result.agreement,
        "metric": result.metric,
        "on": place,
        "bit_exact": {"checked": bits.checked, "equal": bits.equal},
        "stack_bytes": result.stack,
    }
    if as_json:
        click.echo(json.dumps(figures))
    else:
        click.echo(f"{result.examples} examples, on {place}")
        click.echo(f"{result.metric:10} float {result.accuracy_float:.4f}, compiled {result.accuracy_compiled:.4f}")
        click.echo(f"agreement  {result.agreement:.4f}")
        click.echo(f"bit-exact  {bits.equal} of {bits.checked} runs")
        if result.stack is not None:
            click.echo(f"stack      {result.stack:,} bytes at the deepest, the protocol server's included")
    if bits.first_failure:
        failed = bits.checked - bits.passed
        raise WorkError(f"{failed} of {bits.checked} runs do not give the logits they should: {bits.first_failure}")
