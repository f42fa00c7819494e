"""`embbert-tvm tokenizer`: train a tokenizer on text."""

from __future__ import annotations

from pathlib import Path

import click

from embbert_tvm import progress

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("text", nargs=-1, required=True, type=_PATH)
@click.option("-o", "--output", type=_PATH, required=True, metavar="JSON", help="The tokenizer.json to write.")
@click.option("--vocabulary-size", type=int, default=8192, show_default=True, help="Tokens, special ones included.")
def command(text: tuple[Path, ...], output: Path, vocabulary_size: int) -> None:
    """Train a tokenizer on TEXT, files of UTF-8 with a paragraph a line, plain, .gz or .xz."""
    from embbert_tvm.data.tokenizer import plain_lines, save_tokenizer, train_tokenizer

    with progress.task("training a tokenizer"):
        save_tokenizer(train_tokenizer(plain_lines(text), vocabulary_size), output)
    click.echo(f"{output}: a tokenizer of at most {vocabulary_size} tokens")
