"""The template `arduino` compiled and linked by the recipes of a real core, STM32's.

    python benchmarks/arduino.py CORE_TREE --cmsis TREE [--board Nucleo_64.NUCLEO_F446RE] [--property K=V ...]

For the core's own optimization and for the one that the library's README names: warnings in the library and the sketch
at -Wall -Wextra, and the bytes of flash and RAM of the image, core included. Nothing is run: QEMU has no clock
controller of this chip.

CORE_TREE is stm32duino/Arduino_Core_STM32 with its submodule cores/arduino/api, TREE a CMSIS that holds
CMSIS/Core/Include. The compiler is Debian's gcc-arm-none-eabi with libstdc++-arm-none-eabi-newlib. --property is
arduino-cli's --build-property.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embbert_tvm import api
from embbert_tvm.device.package import load_package
from embbert_tvm.device.project import load_template, write_project
from embbert_tvm.errors import WorkError
from embbert_tvm.resources import resource
from embbert_tvm.table import table
from embbert_tvm.target import load_cpu

MODEL = resource("models") / "embbert-snips"
CPU = "cortex-m4"
KINDS = {".c": "c", ".cpp": "cpp", ".ino": "cpp", ".S": "S"}


def properties(text: str) -> dict[str, str]:
    """The lines `key=value` of platform.txt or boards.txt."""
    lines = (line.strip() for line in text.splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#") and "=" in line)


def expanded(name: str, known: Mapping[str, str]) -> str:
    """A property with those that it names in braces put in; what is not known is empty, as arduino-cli has it."""
    text = known.get(name, "")
    while (filled := re.sub(r"\{([\w.-]+)\}", lambda match: known.get(match[1], ""), text)) != text:
        text = filled
    return text


def words(command: str) -> list[str]:
    """A command as arduino-cli splits it: quotes hold a word together where one begins it, else they are letters."""
    return [a or b or c for a, b, c in re.findall(r"""\"([^"]*)\"|'([^']*)'|(\S+)""", command)]


def sources_below(*folders: str | Path) -> list[Path]:
    """The files of folders that a compiler takes, links into other folders followed."""
    found = (
        Path(root) / name
        for folder in folders
        for root, _, names in os.walk(folder, followlinks=True)
        for name in names
    )
    return sorted(path for path in found if path.suffix in KINDS)


@dataclass(frozen=True)
class Core:
    """A core's folder and the properties of a board of it, `group.number` as boards.txt and its menu have it."""

    folder: Path
    known: Mapping[str, str]

    def sources(self) -> list[Path]:
        """The files of the board's variant, and of the library that the core always takes."""
        return sources_below(self.known["build.variant.path"], self.folder / "libraries/SrcWrapper/src")

    def call(self, recipe: str, **given: str) -> str:
        """Run a recipe; what it prints. Raises WorkError with its first error line."""
        command = words(expanded(f"recipe.{recipe}.pattern", {**self.known, **given}))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            faults = (line for line in done.stderr.splitlines() if re.search("error: |undefined|cannot find", line))
            raise WorkError(next(faults, done.stderr[-200:]))
        return done.stderr


def load_core(options: argparse.Namespace, build: Path, optimize: str) -> Core:
    """The core for a board, as a build in a folder wants it."""
    group, number = options.board.split(".")
    known = properties((options.core / "platform.txt").read_text())
    of_board = properties((options.core / "boards.txt").read_text())
    for prefix in (f"{group}.", f"{group}.menu.pnum.{number}."):
        known |= {key.removeprefix(prefix): value for key, value in of_board.items() if key.startswith(prefix)}
    known |= {
        "runtime.ide.version": "10607",
        "runtime.platform.path": str(options.core),
        "build.arch": "STM32",
        "build.path": str(build),
        "build.project_name": "sketch",
        "build.source.path": str(build / "sketch"),
        "build.system.path": str(options.core / "system"),
        "build.core.path": str(options.core / "cores" / known["build.core"]),
        "build.variant.path": str(options.core / "variants" / known["build.variant"]),
        "compiler.path": "",
        "cmsis_dir": str(options.cmsis / "CMSIS"),
        "compiler.warning_flags": "-Wall -Wextra",
        "compiler.c.extra_flags": optimize,
        **dict(text.split("=", 1) for text in options.property),
    }
    return Core(options.core, known)


def compiled(core: Core, sources: list[Path], folder: Path, include: Path) -> tuple[list[str], str]:
    """The objects of sources, in a folder made for them, and what the compilers printed."""
    folder.mkdir()
    includes = " ".join(
        f'"-I{path}"' for path in (core.known["build.core.path"], core.known["build.variant.path"], include)
    )
    objects, said = [], ""
    for number, source in enumerate(sources):
        objects.append(str(folder / f"{number}-{source.name}.o"))
        given = {"source_file": str(source), "object_file": objects[-1], "includes": includes}
        said += core.call(f"{KINDS[source.suffix]}.o", **given)
    return objects, said


def core_of(core: Core, build: Path, library: Path) -> tuple[Path, list[str]]:
    """The core as an archive, and the objects of what belongs to the board."""
    objects, _ = compiled(core, sources_below(core.known["build.core.path"]), build / "core", library / "src")
    archive = build / "core.a"
    for path in objects:
        core.call("ar", archive_file_path=str(archive), object_file=path)
    return archive, compiled(core, core.sources(), build / "board", library / "src")[0]


def sections_of(image: Path) -> dict[str, int]:
    """Bytes by section."""
    size = subprocess.run(["arm-none-eabi-size", "-A", image], capture_output=True, text=True, check=True)
    return {name: int(count) for name, count in re.findall(r"^(\.\w+) +(\d+)", size.stdout, re.MULTILINE)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("core", type=lambda text: Path(text).resolve(), metavar="CORE_TREE")
    parser.add_argument("--cmsis", type=lambda text: Path(text).resolve(), required=True, metavar="TREE")
    parser.add_argument("--board", default="Nucleo_64.NUCLEO_F446RE")
    parser.add_argument("--property", nargs="+", default=[], metavar="K=V")
    options = parser.parse_args()
    rows, status = [("optimization", "warnings", "flash", "RAM, static")], 0
    with tempfile.TemporaryDirectory(prefix="embbert ") as scratch:
        package, library, build = (Path(scratch) / name for name in ("package", "a library", "a build"))
        api.compile(MODEL, CPU, package)
        write_project(load_package(package), load_template("arduino"), library)
        (build / "sketch").mkdir(parents=True)
        (build / "sketch/build.opt").write_text("")
        (origin,) = (library / "examples").rglob("*.ino")
        sketch = build / "sketch/Classify.ino.cpp"
        sketch.write_text(f"#include <Arduino.h>\n#line 1\n{origin.read_text()}")
        archive, board = core_of(load_core(options, build, ""), build, library)
        for name, optimize in (("the core's", ""), ("README's", " ".join(load_cpu(CPU).optimize))):
            core = load_core(options, build, optimize)
            ours, said = compiled(core, [sketch, *sources_below(library / "src")], build / name, library / "src")
            objects = " ".join(f'"{path}"' for path in [*ours, *board])
            core.call("c.combine", object_files=objects, archive_file_path=str(archive), archive_file=archive.name)
            warnings = [line for line in said.splitlines() if "warning:" in line]
            for line in warnings:
                print(line, file=sys.stderr)
            status |= bool(warnings)
            sections = sections_of(build / "sketch.elf")
            flash = sum(sections.get(section, 0) for section in (".isr_vector", ".text", ".rodata", ".data"))
            rows.append((name, str(len(warnings)), f"{flash:,}", f"{sections['.data'] + sections['.bss']:,}"))
    print(table(rows, right=(1, 2, 3)))
    return status


if __name__ == "__main__":
    sys.exit(main())
