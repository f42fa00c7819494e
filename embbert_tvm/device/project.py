"""A package as a project of a build system: the templates of embbert_tvm/firmware/templates, filled in.

A template is a folder: template.yaml says where the package's C goes and which files of the firmware come along, every
other file is copied. In all of them, and in their paths, `@key@` stands for a value; a line with `@source@` or
`@source_stem@` stands once for each of the package's C files.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from embbert_tvm.c_names import DEFAULT_PREFIX
from embbert_tvm.data.files import folder_in_place
from embbert_tvm.device import board_header
from embbert_tvm.device.build import FIRMWARE, library_folders, library_sources, served_names
from embbert_tvm.device.linker import linker_script
from embbert_tvm.device.package import Package, load_vectors
from embbert_tvm.errors import InputError
from embbert_tvm.escape import of_file
from embbert_tvm.resources import resource
from embbert_tvm.target import Board, Cpu, load_board, load_cpu
from embbert_tvm.version import __version__

TEMPLATES = FIRMWARE / "templates"
EXAMPLE = "play some music"
_DESCRIPTION = "template.yaml"
# Values that are lines of C already, of names that were checked (c_names.py).
_WRITTEN = ("server_defines",)
_KEY = re.compile(r"@([a-z_]+)@")
_SOURCE = re.compile(r"@source(?:_stem)?@")


@dataclass(frozen=True)
class Template:
    """A folder of embbert_tvm/firmware/templates.

    Args:
        board: whether it needs one.
        sources, includes: where the package's C and its header go.
        copy: files of embbert_tvm/firmware, by where they go.
        support: where what is made for the board goes (board.h), None where nothing is.
    """

    folder: Path
    description: str
    board: bool
    sources: str
    includes: str
    copy: Mapping[str, str]
    support: str | None = None


def known_templates() -> list[str]:
    """The names that `project --template` takes, sorted."""
    return sorted(path.parent.name for path in TEMPLATES.glob(f"*/{_DESCRIPTION}"))


def load_template(name: str) -> Template:
    """The template of that name; InputError lists those there are."""
    if name not in known_templates():
        raise InputError(f"unknown template {name!r}: known are {', '.join(known_templates())}")
    folder = TEMPLATES / name
    return Template(folder, **yaml.safe_load((folder / _DESCRIPTION).read_text(encoding="utf-8")))


def write_project(package: Package, template: Template, out: Path, board: Board | None = None) -> list[str]:
    """Fill `out`, which must be new or empty, with a project; the paths of its files, sorted.

    board: by default the package's own, else the one that emulates its CPU. Raises InputError for an `out` that holds
    something, and for a board of another CPU or none where the template needs one.
    """
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out}: is not empty: name a folder that is")
    cpu = load_cpu(package.target)
    board = _board(package, cpu, board, template)
    values = _values(package, cpu, board)
    library = [path for _, path in library_sources(cpu)]
    names = [path.name for path in (*package.sources, *library)]

    def filled(text: str, path: Path | str) -> str:
        """A file's text; what is put into it is written in its language."""
        written = of_file(path)
        put = {key: value if key in _WRITTEN else written(value) for key, value in values.items()}
        return _filled(text, put, names)

    def place(path: Path | str) -> str:
        return _filled(str(path), values, names)

    with folder_in_place(out) as folder:
        for path in sorted(template.folder.rglob("*")):
            if path.is_file() and path.name != _DESCRIPTION:
                _write(folder / place(path.relative_to(template.folder)), filled(path.read_text("utf-8"), path))
        for where, origin in template.copy.items():
            _write(folder / place(where), filled((FIRMWARE / place(origin)).read_text("utf-8"), place(where)))
        if template.board and board is not None:
            _write(folder / "link.ld", linker_script(board, package))
            if template.support is not None:
                _write(folder / template.support / board_header.NAME, board_header.board_header(board))
        sources, includes = folder / place(template.sources), folder / place(template.includes)
        _copy_package(package, sources, includes)
        for path in library:
            shutil.copyfile(path, sources / path.name)
        for header in (h for path in library_folders(cpu) for h in sorted(path.glob("*.h"))):
            shutil.copyfile(header, includes / header.name)
        shutil.copyfile(resource("LICENSE"), folder / "LICENSE")
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _board(package: Package, cpu: Cpu, board: Board | None, template: Template) -> Board | None:
    board = board or package.board or (load_board(cpu.emulation_board) if cpu.emulation_board else None)
    if board is None and template.board:
        raise InputError(
            f"{package.path}: was compiled for {cpu.name}, and the template {template.folder.name} needs a board: "
            "compile with --board, or choose another template"
        )
    if board is not None and board.cpu != cpu.name and board.name != cpu.emulation_board:
        raise InputError(f"{board.name} has a {board.cpu}, the package was compiled for {cpu.name}: compile it again")
    return board


def _values(package: Package, cpu: Cpu, board: Board | None) -> dict[str, str]:
    vectors = load_vectors(package)
    ids = vectors[len(vectors) // 2].ids if vectors else (0,)
    component = component_name(package.prefix)
    run, words = _run(board)
    return {
        "model": package.model_name,
        "slug": project_name(package),
        "version": __version__,
        "prefix": package.prefix,
        "upper": package.prefix.upper(),
        "component": component,
        "symbol": component.upper(),
        "cpu": cpu.name,
        "arch": cpu.arch,
        "start": cpu.firmware[0],
        "board": board.name if board else "",
        "tool_prefix": cpu.toolchain.prefix,
        "packages": " ".join(cpu.toolchain.packages),
        "cflags": " ".join(cpu.cflags),
        "cpu_flags": " ".join(cpu.cflags),
        "optimize": " ".join(cpu.optimize),
        "ldflags": " ".join(cpu.ldflags),
        "libraries": " ".join(cpu.libraries),
        "floating": "y" if package.floating else "n",
        "min_ram": str(_kilobytes(package.arena_bytes + _RTOS_RAM)),
        "min_flash": str(_kilobytes(package.weights_bytes + _CODE_FLASH)),
        "steps": str(len(package.steps)),
        "blob": "" if package.layout is None else f", &{package.prefix}_blob",
        "of_model": "" if package.layout is None else "&model, ",
        "server_defines": "".join(f"#define {ours} {name}\n" for ours, name in served_names(package).items()),
        "text": package.example or EXAMPLE,
        "ids": ", ".join(map(str, ids)),
        "run": run,
        "run_words": words,
    }


def component_name(prefix: str) -> str:
    """What build systems call a package: CMake's target, ESP-IDF's component, in capitals the symbol of Kconfig.

    A prefix may be the name of a part of Zephyr or ESP-IDF (`shell`, `console`) or of a target of CMake's (`test`),
    which share one space of names with ours; no prefix but the default begins with it.
    """
    return prefix if prefix == DEFAULT_PREFIX else f"{DEFAULT_PREFIX}_{prefix}"


def project_name(package: Package) -> str:
    """The name of the library or module, of at most 50 letters, digits and hyphens: the model's.

    Of two packages of one model in one firmware, which differ by prefix, Zephyr and Arduino would drop one.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", package.model_name.lower()).strip("-") or package.prefix
    end = "" if package.prefix == DEFAULT_PREFIX else f"-{package.prefix.replace('_', '-')}"
    return slug[: 50 - len(end)].rstrip("-") + end


# What an image has beside arena and weights: an operating system's stacks and static data; its code and the package's.
_RTOS_RAM, _CODE_FLASH = 16384, 0x20000


def _kilobytes(count: int) -> int:
    return -(-count // 1024)


def _run(board: Board | None) -> tuple[str, str]:
    """The command that runs an image, whose name follows it, and what it does in words."""
    if board is None or board.qemu is None:
        words = "QEMU does not know the board, put it there with your programmer"
        return f"echo {words}:", words
    options = "-display none -monitor none -serial none -semihosting-config enable=on,target=native"
    machine = " ".join([board.qemu.machine, *board.qemu.options])
    return f"{board.qemu.program} -M {machine} {options} -kernel", "in QEMU, which stands for the board"


def _filled(text: str, values: Mapping[str, str], sources: list[str]) -> str:
    lines = []
    for line in text.splitlines(keepends=True):
        if _SOURCE.search(line):
            lines += [_one(line, {**values, "source": name, "source_stem": Path(name).stem}) for name in sources]
        else:
            lines.append(_one(line, values))
    return "".join(lines)


def _one(line: str, values: Mapping[str, str]) -> str:
    return _KEY.sub(lambda match: values[match[1]], line)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _copy_package(package: Package, sources: Path, includes: Path) -> None:
    """The C files and the headers beside them to `sources`, the headers of the API to `includes`."""
    sources.mkdir(parents=True, exist_ok=True)
    includes.mkdir(parents=True, exist_ok=True)
    for path in package.sources:
        shutil.copyfile(path, sources / path.name)
    folders = {path.parent for path in package.sources}
    for header in sorted({h for folder in folders for h in folder.glob("*.h")}):
        shutil.copyfile(header, sources / header.name)
    for header in sorted({h for folder in package.includes if folder not in folders for h in folder.glob("*.h")}):
        shutil.copyfile(header, includes / header.name)
