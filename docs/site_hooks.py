"""A hook of mkdocs: the reference pages, made from the code as the site is built."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import click

import embbert_tvm
from embbert_tvm.cli import COMMANDS, group
from embbert_tvm.cli.shared import full_help

# What the page of Python shows beside the names of the package itself, each by its path.
_MORE = ("embbert_tvm.options.CompileOptions", "embbert_tvm.device.classify.Answer", "embbert_tvm.api.Target")
_MORE += ("embbert_tvm.api.find_target", "embbert_tvm.api.Flash", "embbert_tvm.api.Ram")
_ERRORS = ("EmbbertError", "InputError", "WorkError")
_MODEL = "embbert-snips"
# A comment of the header, and the declarations that it is about.
_DECLARED = re.compile(r"^/\* (.*?) \*/\n((?:[a-z][^\n]*\n(?:[ }][^\n]*\n)*)+)", re.DOTALL | re.MULTILINE)


def commands_page() -> str:
    """Markdown with the help of every command and of its subcommands."""
    parts = ["# Commands\n\nThe help of every command, as `embbert-tvm COMMAND --help-all` prints it.\n"]
    for name in sorted(COMMANDS):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        parts.append(_help(command, name, "##"))
        for inner, found in sorted(getattr(command, "commands", {}).items()):
            parts.append(_help(found, f"{name} {inner}", "###"))
    return "\n".join(parts)


def _help(command: click.Command, name: str, level: str) -> str:
    context = click.Context(command, info_name=f"embbert-tvm {name}", terminal_width=100, max_content_width=100)
    return f"{level} {name}\n\n```text\n{full_help(context)}\n```\n"


def python_page() -> str:
    """Markdown that names what mkdocstrings is to show of the library."""
    apart = {path.rpartition(".")[2] for path in _MORE} | {"__version__"}
    names = [f"embbert_tvm.api.{name}" for name in embbert_tvm.__all__ if name not in apart]
    parts = [
        "# Python\n\nThe names of `embbert_tvm`, from their docstrings. Everything else may change without notice.\n",
        "## The library\n",
        *(f"::: {path}\n" for path in (*names, *_MORE)),
        "## Errors\n",
        *(f"::: embbert_tvm.errors.{name}\n" for name in _ERRORS),
        "## Progress\n",
        "::: embbert_tvm.progress\n",
    ]
    return "\n".join(parts)


def c_page(header: str) -> str:
    """Markdown of a package's header: a heading for each function or group of types, the whole at the end."""
    parts = [
        f"# C\n\nThe C API of a package, from the `embbert.h` that `compile` writes for `{_MODEL}`. The header of "
        "another model has other numbers, and what its heads need beside.\n"
    ]
    declared = header[header.index("typedef enum") :]
    statuses = declared[: declared.index(";") + 1]
    parts.append(f"## {_title(statuses)}\n\nWhat every call returns.\n\n```c\n{statuses}\n```\n")
    for comment, code in _DECLARED.findall(declared):
        words = re.sub(r"\s*\n \* ", " ", comment).replace("*", "\\*")
        parts.append(f"## {_title(code)}\n\n{words}\n\n```c\n{code.rstrip()}\n```\n")
    parts.append(f"## The whole header\n\n```c\n{header.rstrip()}\n```\n")
    return "\n".join(parts)


def _title(code: str) -> str:
    code = re.sub(r"/\*.*?\*/", "", code, flags=re.DOTALL)
    functions = re.findall(r"(\w+)\(", code)
    found = [f"`{name}`" for name in (functions or re.findall(r"} (\w+);", code))]
    return ", ".join(dict.fromkeys(found))


def _header() -> str:
    """embbert.h of the shipped model, compiled for a Cortex-M7."""
    with tempfile.TemporaryDirectory(prefix="embbert-") as folder:
        package = embbert_tvm.compile(_MODEL, "cortex-m7", Path(folder) / "package")
        return (package.path / "codegen" / "host" / "include" / "embbert.h").read_text(encoding="utf-8")


PAGES = {"commands.md": commands_page, "python.md": python_page, "c-api.md": lambda: c_page(_header())}


def on_files(files, config):
    """Add the pages to those of the site."""
    from mkdocs.structure.files import File

    for path, page in PAGES.items():
        files.append(File.generated(config, path, content=page()))
    return files
