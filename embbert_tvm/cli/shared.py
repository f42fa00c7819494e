"""What every command has beside its own options: `--quiet`, its progress, a help of one screen, and an example.

An option that few need is declared with `hidden=True`: `--help` leaves it out, `--help-all` shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

import click

from embbert_tvm import progress
from embbert_tvm.cli.progress import Display


def complete(command: click.Command, name: str, examples: Mapping[str, str]) -> click.Command:
    """Add to a command, and to those of a group, what every command has; once, however often it is looked up.

    examples: by the names of commands, those of a group behind its own.
    """
    if command.epilog is None:
        command.epilog = f"\b\nExample:\n  {examples[name]}"
        if isinstance(command, click.Group):
            for inner, found in command.commands.items():
                complete(found, f"{name} {inner}", examples)
        else:
            command.params.append(_quiet())
            if any(map(_is_hidden, command.params)):
                command.params.append(_help_all())
    return command


def full_help(ctx: click.Context) -> str:
    """The help of a command, with the options that few need under a heading of their own."""
    command, formatter = ctx.command, ctx.make_formatter()
    command.format_usage(ctx, formatter)
    command.format_help_text(ctx, formatter)
    command.format_options(ctx, formatter)
    if records := [_record(option, ctx) for option in command.params if _is_hidden(option)]:
        with formatter.section("More options"):
            formatter.write_dl(records)
    command.format_epilog(ctx, formatter)
    return formatter.getvalue().rstrip("\n")


def _is_hidden(param: click.Parameter) -> TypeGuard[click.Option]:
    return isinstance(param, click.Option) and param.hidden


def _record(option: click.Option, ctx: click.Context) -> tuple[str, str]:
    """The line of a hidden option, which click has none of."""
    option.hidden = False
    try:
        record = option.get_help_record(ctx)
    finally:
        option.hidden = True
    assert record is not None
    return record


def _quiet() -> click.Option:
    def listen(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if not ctx.resilient_parsing:
            ctx.with_resource(progress.heard_by(Display(quiet=value)))

    return click.Option(
        ["-q", "--quiet"],
        is_flag=True,
        expose_value=False,
        callback=listen,
        help="Show no progress, only the result, warnings and errors.",
    )


def _help_all() -> click.Option:
    def show(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            click.echo(full_help(ctx), color=ctx.color)
            ctx.exit()

    return click.Option(
        ["--help-all"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show the options too that few need, and exit.",
    )
