"""Options that several commands share."""

from __future__ import annotations

import click

timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="For one text. Default: what the device's clock and the text's length ask for.",
)
