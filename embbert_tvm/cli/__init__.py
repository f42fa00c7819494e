"""The command line: each verb is a module of this folder, imported when it is called."""

from __future__ import annotations

import gc
import importlib
import sys

import click

from embbert_tvm.cli.shared import complete
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

# What ends each command's help.
EXAMPLES = {
    "compile": "embbert-tvm compile models/embbert-snips --board nucleo_h743zi2 -o build/snips",
    "compare": "embbert-tvm compare models/mine models/new --data test.tsv",
    "distill": "embbert-tvm distill train.tsv --teacher minilm -o models/mine",
    "doctor": "embbert-tvm doctor",
    "evaluate": "embbert-tvm evaluate models/embbert-snips --data data/snips/test.tsv.xz",
    "export": "embbert-tvm export a-hub-model/ -o models/mine --calibration train.tsv",
    "farm": "embbert-tvm farm tracker",
    "farm serve": "embbert-tvm farm serve --tracker 127.0.0.1:9190 --board mps2_an500",
    "farm tracker": "embbert-tvm farm tracker --port 9190",
    "firmware": "embbert-tvm firmware build/mine --board nucleo_h743zi2 -o build/firmware",
    "footprint": "embbert-tvm footprint models/embbert-snips",
    "pretrain": "embbert-tvm pretrain corpus.txt -o models/base",
    "profile": "embbert-tvm profile build/mine --on qemu --length 12,64",
    "project": "embbert-tvm project build/mine --template cmake -o build/project",
    "reject": "embbert-tvm reject models/mine --dev dev.tsv --outside other.tsv",
    "report": "embbert-tvm report build/mine build/mine-int4 --data test.tsv -o report.html",
    "run": 'embbert-tvm run build/mine --on qemu "turn the lights off"',
    "targets": "embbert-tvm targets list",
    "targets list": "embbert-tvm targets list",
    "targets new": "embbert-tvm targets new mine.yaml --cpu cortex-m4 --flash 1M@0x08000000 --ram 96k --clock 80MHz",
    "targets show": "embbert-tvm targets show nucleo_h743zi2",
    "tokenizer": "embbert-tvm tokenizer corpus.txt -o tokenizer.json",
    "train": "embbert-tvm train train.tsv --base embbert-base -o models/mine",
    "tune": "embbert-tvm tune models/mine --target cortex-m7 --trials 64",
    "validate": "embbert-tvm validate build/mine --data test.tsv --on qemu",
}


class LazyGroup(click.Group):
    """A group whose commands are imported only when called, so that --help is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"embbert_tvm.cli.{name}").command
        return complete(found, name, EXAMPLES)

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


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="embbert-tvm")
def group() -> None:
    """Tiny language models as plain C on microcontrollers."""


def main() -> None:
    from embbert_tvm.cli.net import guarded

    # Imports and graphs make hundreds of thousands of objects that stay: collections on the way find nothing.
    gc.set_threshold(500_000, 20, 20)
    status = guarded(lambda: group.main(prog_name="embbert-tvm", standalone_mode=False))
    gc.freeze()  # else the interpreter looks through all of them once more as it ends
    sys.exit(status)
