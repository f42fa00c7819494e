"""embbert-tvm run: classify text with a compiled package."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embbert_tvm.cli.options import place_option, timeout_option
from embbert_tvm.heads import MANY_LABELS, REGRESSION, TOKENS, VECTOR
from embbert_tvm.rejection import NONE_TEXT
from embbert_tvm.table import table

if TYPE_CHECKING:
    from embbert_tvm.device.classify import Answer

TEXT_COLUMNS = 60
_NUMBERS = 4  # of a vector that are shown


@click.command("run")
@click.argument("package", type=click.Path())
@click.argument("text", nargs=-1)
@click.option(
    "--file", "path", metavar="FILE", help="File of texts, one a line, or a TSV with a header; - is standard input."
)
@place_option
@click.option(
    "--examples",
    type=click.Path(path_type=Path),
    metavar="TSV",
    help="Intents, label and text, by which vectors get labels.",
)
@click.option(
    "--threshold", type=float, metavar="COSINE", help="The least cosine that counts for --examples.  [default: 0.5]"
)
@timeout_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    package: str,
    text: tuple[str, ...],
    path: str | None,
    place: str,
    examples: Path | None,
    threshold: float | None,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Run the compiled PACKAGE on each TEXT and print what it says: a label, labels of tokens, or a vector.

    Without TEXT, texts are read from --file or from standard input.
    """
    if path is not None or not text:
        text = (*text, *_texts(path or "-"))
    from embbert_tvm.data.dataset import read_examples
    from embbert_tvm.device.by_example import THRESHOLD, classify_by_example
    from embbert_tvm.device.classify import classify
    from embbert_tvm.device.package import load_package

    opened = load_package(package)
    if examples is not None:
        given = THRESHOLD if threshold is None else threshold
        answers = classify_by_example(opened, read_examples(examples), text, place, timeout, given)
    else:
        answers = classify(opened, text, place, timeout)
    for answer in answers:
        if answer.cut:
            words = f"{shortened(answer.text)!r}: cut to {answer.tokens} tokens, {answer.cut} left out"
            click.echo(f"embbert-tvm: {words}", err=True)
    if as_json:
        results = []
        for answer in answers:
            result: dict[str, Any] = {"text": answer.text, "label": answer.label, "scores": answer.scores}
            result |= _more(answer, opened.head)
            if answer.slots is not None:
                result["slots"] = [asdict(slot) for slot in answer.slots]
            if answer.heads is not None:
                result["heads"] = {name: asdict(head) for name, head in answer.heads.items()}
            if opened.rejection is not None or examples is not None:
                result["none"] = answer.none
            counts = {"instructions": answer.instructions, "cycles": answer.cycles}
            results.append(result | {"tokens": answer.tokens} | counts)
        click.echo(json.dumps({"on": place, "results": results}))
        return
    unit = "cycles" if any(answer.cycles for answer in answers) else "instructions"
    title = {REGRESSION: "value", VECTOR: "vector", MANY_LABELS: "labels", TOKENS: "labels of tokens"}
    what = "label" if examples is not None else title.get(opened.head, "label")
    rows: list[tuple[str, ...]] = [("text", what, "score", "tokens", unit)]
    for answer in answers:
        counted = answer.instructions or answer.cycles
        count = "" if counted is None else f"{counted:,}"
        rows.append((shortened(answer.text), _what(answer), _score(answer), str(answer.tokens), count))
    click.echo(table(rows, right=(2, 3, 4)))


def _more(answer: Answer, head: str) -> dict[str, Any]:
    """What the JSON of an answer has beside its label and scores."""
    if head == TOKENS:
        return {"token_labels": [asdict(token) for token in answer.token_labels or ()]}
    if head == VECTOR:
        return {"vector": answer.vector}
    if head == MANY_LABELS:
        return {"labels": answer.labels}
    return {"value": answer.value} if head == REGRESSION else {}


def _what(answer: Answer) -> str:
    """An answer in a few words."""
    if answer.none:
        return NONE_TEXT
    if answer.token_labels is not None:
        return " ".join(f"{token.token}={token.label}" for token in answer.token_labels)
    if answer.vector is not None and answer.label is None and not answer.none:
        first = ", ".join(f"{number:.4f}" for number in answer.vector[:_NUMBERS])
        return f"{first}{', …' * (len(answer.vector) > _NUMBERS)} ({len(answer.vector)} numbers)"
    if answer.labels is not None:
        return ", ".join(answer.labels) or "none"
    if answer.label is None:
        return f"{answer.value:.4f}"
    slots = [f"{slot.slot}={shortened(slot.text)}" for slot in answer.slots or ()]
    others = [f"{name}: {head.label}" for name, head in (answer.heads or {}).items()]
    return "; ".join([answer.label, *slots, *others])


def _score(answer: Answer) -> str:
    if not answer.scores or answer.label is None:
        return ""
    shown = [answer.label] if answer.labels is None else answer.labels
    return ", ".join(f"{answer.scores[label]:.3f}" for label in shown)


def _texts(path: str) -> list[str]:
    """The texts of a file, or of standard input, without blank lines. Raises InputError where there is none."""
    import sys
    import tempfile
    from pathlib import Path

    from embbert_tvm.data.dataset import read_columns
    from embbert_tvm.data.files import read_lines
    from embbert_tvm.errors import InputError

    if path == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise click.UsageError("Missing argument 'TEXT...': give texts, --file FILE, or texts on standard input.")
        with tempfile.NamedTemporaryFile(suffix=".txt") as file:
            file.write(sys.stdin.buffer.read())
            file.flush()
            try:
                found = _texts(file.name)
            except InputError as error:
                raise InputError(str(error).replace(file.name, "standard input")) from error
    else:
        found = read_columns(Path(path)) or [line.rstrip("\r\n") for line in read_lines(Path(path)) if line.strip()]
    if not found:
        raise InputError(f"{'standard input' if path == '-' else path}: holds no text")
    return found


def shortened(text: str) -> str:
    """A text on one line of TEXT_COLUMNS at most."""
    line = " ".join(text.split())
    return line if len(line) <= TEXT_COLUMNS else line[: TEXT_COLUMNS - 1] + "…"
