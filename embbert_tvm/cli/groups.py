"""A command whose --help shows its options in groups, and an example at the end."""

from __future__ import annotations

from typing import Any

import click


class GroupedCommand(click.Command):
    """A command with its options under headings.

    Args:
        groups: the names of the options, as Python has them, under each heading; what none names comes under "Others".
        example: lines that end the help as they stand.
    """

    def __init__(self, *args: Any, groups: dict[str, tuple[str, ...]], example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.groups, self.example = groups, example

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # click names the parameter of --help as it likes.
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        names = {"help" if "--help" in p.opts else p.name: p.get_help_record(ctx) for p in options}
        records = {name: record for name, record in names.items() if record is not None}
        for heading, names in self.groups.items():
            with formatter.section(heading):
                formatter.write_dl([records.pop(name) for name in names])
        if records:
            with formatter.section("Others"):
                formatter.write_dl(list(records.values()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"  {line}\n")
