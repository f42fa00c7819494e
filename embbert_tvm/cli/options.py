"""Options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path

import click

timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="The longest a text may take. Default: by the device's clock and the text's length.",
)

place_option = click.option(
    "--on",
    "place",
    default="host",
    show_default=True,
    metavar="PLACE",
    help="host, qemu, qemu:BOARD or serial:PORT[@BAUD]",
)

folder_option = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="The folder to write.",
)

plot_option = click.option(
    "--plot", type=click.Path(path_type=Path), metavar="PNG|SVG", help="Draw the figures into this file."
)


class Quantity(click.ParamType):
    """A number with a unit behind it: 300k bytes, 10m of time."""

    def __init__(self, name: str, units: dict[str, float], example: str) -> None:
        self.name, self._units, self._example = name, units, example

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", str(value).strip())
        if found is None or found[2].lower() not in self._units or float(found[1]) <= 0:
            self.fail(f"{value!r}: give a number as {self._example}", param, ctx)
        return float(found[1]) * self._units[found[2].lower()]


class NamedFile(click.ParamType):
    """A pair of a name and a path, NAME=FILE."""

    name = "NAME=FILE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path]:
        if isinstance(value, tuple):
            return value
        name, _, path = str(value).partition("=")
        if not name or not path:
            self.fail(f"{value!r}: give a name and a file as mood=mood.tsv", param, ctx)
        return name, Path(path)


SIZE = Quantity("BYTES", {"": 1, "b": 1, "k": 1024, "kb": 1024, "kib": 1024, "m": 1 << 20, "mb": 1 << 20}, "300k")
MILLISECONDS = Quantity("MS", {"": 1, "ms": 1, "s": 1000}, "5ms")
DURATION = Quantity("TIME", {"s": 1, "m": 60, "min": 60, "h": 3600}, "10m or 1h")
NAMED_FILE = NamedFile()
