"""`embbert-tvm compare`: which answers change from one model to another."""

from __future__ import annotations

from pathlib import Path

import click

_PATH = click.Path(path_type=Path)
_SHOWN = 20  # changed texts, and classes, that a terminal is shown


@click.command()
@click.argument("old", type=_PATH)
@click.argument("new", type=_PATH)
@click.option("--data", type=_PATH, required=True, help="TSV of labelled text.")
@click.option("-o", "--output", type=_PATH, help="TSV to write: kind, label, old and new answer, text of each change.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(old: Path, new: Path, data: Path, output: Path | None, as_json: bool) -> None:
    """Say which answers change from OLD to NEW, model folders or packages, for better and for worse, and by class."""
    import json
    from dataclasses import asdict

    from embbert_tvm.cli.run import shortened
    from embbert_tvm.data.files import write_atomically
    from embbert_tvm.table import table
    from embbert_tvm.training.compare import compare

    found = compare(old, new, data)
    rows = [(x.kind, x.example.label, x.old, x.new) for x in found.changes]
    if output is not None:
        lines = ["kind\tlabel\told\tnew\ttext"]
        texts = [" ".join(x.example.text.split()) for x in found.changes]
        lines += ["\t".join([*row, text]) for row, text in zip(rows, texts, strict=True)]
        write_atomically(output, ("\n".join(lines) + "\n").encode("utf-8"))
    kinds = {kind: found.count(kind) for kind in ("better", "worse", "other")}
    if as_json:
        document = {"examples": found.examples, "old": found.old, "new": found.new, "changed": len(rows)} | kinds
        click.echo(json.dumps(document | {"classes": [asdict(x) for x in found.classes]}))
        return
    share = 100 * len(rows) / found.examples
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    click.echo(f"accuracy  {100 * found.old:.2f} % before, {100 * found.new:.2f} % now, on {found.examples} examples")
    click.echo(f"changed   {len(rows)} answers, {share:.2f} %: {counted}")
    changed = sorted((x for x in found.classes if x.better or x.worse), key=lambda x: x.better - x.worse)[:_SHOWN]
    if changed:
        title = ("class", "examples", "right before", "now", "better", "worse")
        figures = [(x.label, *(f"{n}" for n in (x.examples, x.old, x.new, x.better, x.worse))) for x in changed]
        click.echo(f"\n{table([title, *figures], right=(1, 2, 3, 4, 5))}")
    worse = [(shortened(x.example.text), x.example.label, x.new) for x in found.changes if x.kind == "worse"][:_SHOWN]
    if worse:
        click.echo(f"\n{table([('for worse', 'label', 'now'), *worse])}")
