"""`embbert-tvm farm`."""

from __future__ import annotations

import click


@click.group()
def command() -> None:
    """Share boards, or QEMU's models of them, over TVM's RPC tracker."""


@command.command()
@click.option("--port", type=click.IntRange(1, 65535), default=9190, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
def tracker(host: str, port: int) -> None:
    """Run a tracker until interrupted."""
    from embbert_tvm.tuning.farm import track

    made = track(host, port)
    click.echo(f"a tracker listens at {host}:{made.port}", err=True)
    made.thread.join()


@command.command()
@click.option("--tracker", "where", required=True, metavar="HOST:PORT")
@click.option("--board", required=True, metavar="BOARD|FILE.yaml")
@click.option("--key", help="The name under which clients request it. Default: the board's.")
@click.option("--serial", metavar="PORT", help="The board is here; without it QEMU emulates it.")
@click.option("--flash", metavar="COMMAND", help="Puts {image} on the board behind the serial port.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at. Whoever reaches it can run code on this machine: another than the default is for a "
    "network of your own.",
)
def serve(where: str, board: str, key: str | None, serial: str | None, flash: str | None, host: str) -> None:
    """Put a board behind a tracker until interrupted."""
    from embbert_tvm.tuning.farm import LOOPBACK, serve

    server = serve(where, board, key, serial, flash, host)
    if host != LOOPBACK:
        click.echo(f"warning: whoever reaches {host} can run code on this machine (SECURITY.md)", err=True)
    click.echo(f"{board} serves at port {server.port} of {host}", err=True)
    server.thread.join()
