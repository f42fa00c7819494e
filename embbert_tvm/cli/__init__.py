"""The command line: each verb is a module of this folder, imported when it is called."""

from __future__ import annotations

import gc
import importlib
import sys

import click

from embbert_tvm.errors import nearest
from embbert_tvm.version import __version__

COMMANDS = {
    "compare": "Say which answers change from one model to another.",
    "compile": "Compile a model folder or an ONNX file to C.",
    "distill": "Fine-tune a model on labelled text and on a larger model's answers.",
    "doctor": "Say what this machine has and lacks.",
    "evaluate": "Measure a float model on labelled text.",
    "export": "Write a model folder's ONNX and calibration statistics.",
    "farm": "Share boards over TVM's RPC tracker.",
    "firmware": "Build an image of a compiled package for a board.",
    "footprint": "Say what a model takes in memory.",
    "tune": "Search faster schedules of a model's kernels for a target.",
    "targets": "List, show and describe CPUs and boards.",
    "project": "Make a project of a build system from a compiled package.",
    "pretrain": "Make a base model from unlabelled text.",
    "profile": "Count the instructions of each step of a compiled package.",
    "reject": "Let a model say that a text has none of its labels.",
    "report": "Show compiled packages on one HTML page.",
    "run": "Classify text with a compiled package.",
    "tokenizer": "Train a tokenizer on text.",
    "train": "Fine-tune a model on labelled text.",
    "validate": "Compare a compiled package with its float model on labelled text.",
}


class LazyGroup(click.Group):
    """A group whose commands are imported only when called, so that --help is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"embbert_tvm.cli.{name}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            error.message += nearest(args[0], COMMANDS)
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="embbert-tvm")
def group() -> None:
    """Tiny language models as plain C on microcontrollers."""


def main() -> None:
    from embbert_tvm.cli.net import guarded

    # Imports and graphs make hundreds of thousands of objects that stay: collections on the way find nothing.
    gc.set_threshold(100_000, 20, 20)
    status = guarded(lambda: group.main(prog_name="embbert-tvm", standalone_mode=False))
    gc.freeze()  # else the interpreter looks through all of them once more as it ends
    sys.exit(status)
