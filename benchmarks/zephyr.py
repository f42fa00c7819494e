"""The template `zephyr` built by Zephyr itself, and booted in QEMU.

    python benchmarks/zephyr.py ZEPHYR_TREE [--module TREE ...] [--board mps2_an385 ...]
                                [--libc minimal picolibc] [--python PYTHON] [--json]

A row for each board, C library and application: a build of what `embbert-tvm project` wrote, with its warnings and what
it takes of flash and RAM, and what it prints in QEMU; boards that QEMU does not know are built alone. The applications
are the template's sample, and zephyr_threads: C++ with models in threads, whose modules lie in a folder with a
blank in its name (an application may not: Zephyr 3.4 itself cuts its path there).

ZEPHYR_TREE is Zephyr 3.4 or newer, TREE its modules: cmsis for Arm, picolibc for the C library of that name, hal_stm32
and hal_nordic for boards of theirs. PYTHON, by default this one, has the packages of its scripts/requirements-base.txt.
CMake, ninja and the compilers are those on the PATH: Debian's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from embbert_tvm import api
from embbert_tvm.device.classify import classify
from embbert_tvm.device.package import Package, load_package
from embbert_tvm.device.project import EXAMPLE, load_template, write_project
from embbert_tvm.device.toolchain import call, find_tool
from embbert_tvm.errors import WorkError
from embbert_tvm.options import CompileOptions
from embbert_tvm.resources import resource
from embbert_tvm.table import table
from embbert_tvm.target import Cpu, load_cpu

MODEL = resource("models") / "embbert-snips"
MINIMAL, PICOLIBC = "minimal", "picolibc"
SAMPLE, THREADS = "sample", "threads"
# Of the models of zephyr_threads; the second is a symbol of Zephyr's own Kconfig.
PREFIXES = ("one", "shell")
# Zephyr 3.4 offers picolibc with its own compiler alone, later ones with any.
KCONFIG = """\
config PICOLIBC_SUPPORTED
	bool
	default y
	select FULL_LIBC_SUPPORTED

source "Kconfig.zephyr"
"""
PRINTS_WITHIN = 120  # seconds


@dataclass(frozen=True)
class Machine:
    """A board of Zephyr's.

    Args:
        cpu: to compile for.
        qemu: the program and its arguments; none where it does not emulate the board.
        models: in one image of zephyr_threads, as many as its flash holds.
    """

    cpu: str
    qemu: tuple[str, ...] = ()
    models: int = 2


MACHINES = {
    "mps2_an385": Machine("cortex-m3", ("qemu-system-arm", "-M", "mps2-an385")),
    "mps2_an521": Machine("cortex-m33", ("qemu-system-arm", "-M", "mps2-an521")),
    "mps3_an547": Machine("cortex-m55", ("qemu-system-arm", "-M", "mps3-an547"), models=1),
    # As much RAM as the board's description tells Zephyr: picolibc's heap begins at its end.
    "qemu_riscv32": Machine("rv32imac", ("qemu-system-riscv32", "-M", "virt", "-m", "256", "-bios", "none")),
    "nucleo_f446re": Machine("cortex-m4"),
    "nucleo_h743zi": Machine("cortex-m7"),
    "nrf52840dk_nrf52840": Machine("cortex-m4"),
}


@dataclass(frozen=True)
class Case:
    """What is built: an application, of a precision, for a board, with a C library."""

    application: str
    precision: str
    board: str
    libc: str


@dataclass(frozen=True)
class Row:
    """What came of a case: warnings, bytes of flash and of RAM, the line that it printed in QEMU; a fault in words."""

    case: Case
    warnings: tuple[str, ...] = ()
    flash: int = 0
    ram: int = 0
    printed: str | None = None
    fault: str | None = None


# A package of the shipped model by CPU, precision and prefix.
Packages = Callable[[str, str, str], Package]


def cases(boards: list[str], libraries: list[str]) -> Iterator[Case]:
    """Every board with every C library, C++ and floating point where they tell something new."""
    for board in boards:
        for libc in libraries:
            if MACHINES[board].qemu:
                yield Case(THREADS, "int8", board, libc)
            yield Case(SAMPLE, "int8", board, libc)
            # Floating point needs a full C library and twice the flash, which mps3_an547 does not give to Zephyr.
            if libc == PICOLIBC and board == "mps2_an521":
                yield Case(SAMPLE, "fp16", board, libc)


def compiled(cpu: str, precision: str, prefix: str, scratch: Path) -> Package:
    """The shipped model for a CPU."""
    out = scratch / f"{prefix}-{cpu}-{precision}"
    api.compile(MODEL, cpu, out, CompileOptions(precision=precision, prefix=prefix))
    return load_package(out)


def libgcc(cpu: Cpu) -> Path:
    """The folder of GCC's own library for a CPU."""
    return Path(call(cpu, "gcc", [*cpu.cflags, "-print-libgcc-file-name"], "its library").strip()).parent


@dataclass(frozen=True)
class Tools:
    """Where Zephyr and its modules lie, and the Python that its build runs."""

    zephyr: Path
    modules: tuple[Path, ...]
    python: str

    def build(self, case: Case, source: Path, modules: list[Path], out: Path) -> str:
        """Configure and build; what both printed. Raises WorkError with its first error line."""
        cpu = load_cpu(MACHINES[case.board].cpu)
        prefix = find_tool(cpu, "gcc").removesuffix("gcc")
        variables = {"ZEPHYR_BASE": str(self.zephyr), "ZEPHYR_TOOLCHAIN_VARIANT": "cross-compile"}
        environment = {**os.environ, **variables, "CROSS_COMPILE": prefix}
        given = {
            "BOARD": case.board,
            "ZEPHYR_MODULES": ";".join(map(str, self.modules)),
            "ZEPHYR_EXTRA_MODULES": ";".join(map(str, modules)),
            # Debian's GCC for RISC-V has no libgcc under the name that Zephyr gives the architecture (with _zicsr).
            "CMAKE_EXE_LINKER_FLAGS": f"-L{libgcc(cpu)}" if cpu.arch == "riscv" else "",
            **dict.fromkeys(("Python3_EXECUTABLE", "PYTHON_EXECUTABLE", "WEST_PYTHON"), self.python),
        }
        if len(modules) > 1:
            given["CONFIG_EMBBERT_SHELL"] = "y"
        if case.libc == PICOLIBC:
            (out.parent / "Kconfig").write_text(KCONFIG)
            given |= {"KCONFIG_ROOT": str(out.parent / "Kconfig"), "CONFIG_PICOLIBC": "y"}
        definitions = [f"-D{key}={value}" for key, value in given.items() if value]
        printed = ""
        for command in (["-G", "Ninja", "-S", source, "-B", out, *definitions], ["--build", out]):
            done = subprocess.run(
                ["cmake", *map(str, command)], env=environment, text=True, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
            printed += done.stdout
            if done.returncode:
                faults = (
                    line for line in printed.splitlines() if re.search(r"\berror: |undefined|overflow|Error at", line)
                )
                raise WorkError(next(faults, "the build failed"))
        return printed


def printed_in_qemu(command: tuple[str, ...], image: Path) -> str:
    """The line that an application prints; empty where none comes in time."""
    words = [*command, "-display", "none", "-monitor", "none", "-serial", "stdio", "-kernel", str(image)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        ending = threading.Timer(PRINTS_WITHIN, process.kill)
        ending.start()
        try:
            return next((line.strip() for line in process.stdout if line.startswith(("label:", "refused"))), "")
        finally:
            ending.cancel()
            process.kill()


def written(case: Case, folder: Path, packages: Packages) -> tuple[Path, list[Path]]:
    """The application's folder and the modules that it does not name itself."""
    machine = MACHINES[case.board]
    if case.application == SAMPLE:
        write_project(packages(machine.cpu, case.precision, "embbert"), load_template("zephyr"), folder / "module")
        return folder / "module/samples/classify", []
    modules = [folder / "a module" / name for name in PREFIXES[: machine.models]]
    for module in modules:
        write_project(packages(machine.cpu, case.precision, module.name), load_template("zephyr"), module)
    return resource("benchmarks") / "zephyr_threads", modules


def run(case: Case, tools: Tools, packages: Packages, scratch: Path) -> Row:
    """Write, build and boot a case."""
    machine = MACHINES[case.board]
    folder = Path(tempfile.mkdtemp(prefix="case-", dir=scratch))
    source, modules = written(case, folder, packages)
    try:
        said = tools.build(case, source, modules, folder / "build")
    except WorkError as error:
        return Row(case, fault=str(error))
    warnings = tuple(dict.fromkeys(line.strip() for line in said.splitlines() if "warning:" in line))
    sizes = {region: int(size) for region, size in re.findall(r"^ *(FLASH|RAM): +(\d+) B", said, re.MULTILINE)}
    row = Row(case, warnings, sizes.get("FLASH", 0), sizes["RAM"])
    if not machine.qemu:
        return row
    (answer,) = classify(packages("host", case.precision, "embbert"), [EXAMPLE], "host")
    printed = printed_in_qemu(machine.qemu, folder / "build/zephyr/zephyr.elf")
    shutil.rmtree(folder)
    right = re.fullmatch(rf"label: {re.escape(answer.label)}(; 0 of .*)?", printed)
    return replace(row, printed=printed, fault=None if right else f"prints {printed!r}, not {answer.label}")


def shown(row: Row) -> tuple[str, ...]:
    """A row of the table."""
    case = row.case
    printed = row.fault or row.printed or "not emulated"
    of = (case.application, case.precision, case.board, case.libc)
    return (*of, f"{row.flash:,}", f"{row.ram:,}", str(len(row.warnings)), printed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zephyr", type=Path, metavar="ZEPHYR_TREE")
    parser.add_argument("--module", type=Path, nargs="+", default=[], metavar="TREE")
    parser.add_argument("--board", nargs="+", choices=MACHINES, default=[b for b in MACHINES if MACHINES[b].qemu])
    parser.add_argument("--libc", nargs="+", choices=(MINIMAL, PICOLIBC), help="default: those whose modules are given")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    modules = tuple(path.resolve() for path in options.module)
    tools = Tools(options.zephyr.resolve(), modules, options.python)
    with_picolibc = any((path / "picolibc.h.in").is_file() for path in modules)
    libraries = options.libc or [MINIMAL, *([PICOLIBC] if with_picolibc else [])]
    rows = []
    with tempfile.TemporaryDirectory(prefix="embbert-") as scratch:
        packages = cache(lambda cpu, precision, prefix: compiled(cpu, precision, prefix, Path(scratch)))
        for case in cases(options.board, libraries):
            rows.append(run(case, tools, packages, Path(scratch)))
            for line in (*rows[-1].warnings, rows[-1].fault or rows[-1].printed or "built"):
                print(f"{case.application} {case.board} {case.libc}: {line}", file=sys.stderr)
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        head = ("application", "precision", "board", "C library", "flash", "RAM", "warnings", "prints")
        print(table([head, *map(shown, rows)], right=(4, 5, 6)))
    return 1 if any(row.fault for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
