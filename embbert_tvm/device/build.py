"""Compiling a package with the protocol server for a place, once: results are kept by the hash of what goes in."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from embbert_tvm.device import board_header
from embbert_tvm.device.linker import linker_script
from embbert_tvm.device.objects import compile_object
from embbert_tvm.device.package import Package
from embbert_tvm.device.toolchain import call
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.progress import task
from embbert_tvm.resources import firmware
from embbert_tvm.target import HOST, Board, Cpu

FIRMWARE = firmware()
SERVER = ("main.c", "frames.c")
# What every board's start-up and driver need.
BOARD_SUPPORT = ("board.c", "registers.c", "uart.c", "port_wait.c")
# Of one request, whose length is counted in 16 bits.
_HOST_TEXT_BYTES, _EMULATED_TEXT_BYTES = 65000, 4096
C_FLAGS = ("-std=c99", "-Wall", "-Wextra", "-ffunction-sections", "-fdata-sections")
# Name flags that the C compiler gets besides, as `-Og -g` to debug a package: of this machine's programs, of firmware.
HOST_FLAGS_VARIABLE, FIRMWARE_FLAGS_VARIABLE = "EMBBERT_TVM_HOST_CFLAGS", "EMBBERT_TVM_FIRMWARE_CFLAGS"


@dataclass(frozen=True)
class Job:
    """All that decides the bytes of an executable.

    Args:
        sources: C files by the names of their objects.
        script: the linker script, None for the toolchain's own.
        headers: texts of header files that are made for it.
    """

    cpu: Cpu
    sources: tuple[tuple[str, Path], ...]
    includes: tuple[Path, ...]
    flags: tuple[str, ...]
    link_flags: tuple[str, ...]
    script: str | None
    headers: tuple[tuple[str, str], ...] = ()


def build(
    package: Package, cpu: Cpu, board: Board | None = None, flags: Sequence[str] = (), *, emulated: bool = False
) -> Path:
    """The executable that serves `package` on a board, or on this machine where `board` is None.

    It lies in <package>/build/<place>/<hash>/, for a board with the linker's map (firmware.map) beside it. `flags` are
    added to the compiler's. emulated: for QEMU's model of the board.
    Raises InputError for a missing toolchain or a board without a driver for its serial port, WorkError for C that
    does not compile or does not fit.
    """
    job = _job(package, cpu, board, flags, emulated)
    place = package.path / "build" / (board.name if board else cpu.name)
    done = place / _digest(job)
    program = done / "firmware.elf"
    if program.is_file():
        return program
    place.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".new-", dir=place))
    try:
        with task(f"building for {board.name if board else cpu.name}"):
            _compile(job, work, package.model_name)
        work.chmod(0o755)
        try:
            os.rename(work, done)
        except OSError:
            if not program.is_file():  # else another process was as quick
                raise
    except OSError as error:
        raise WorkError(f"{place}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return program


def compile_objects(job: Job, folder: Path) -> list[Path]:
    """Compile the sources of a job into `folder`, on two processors; the objects in the sources' order."""
    include = [*job.includes, *library_folders(job.cpu)]
    for name, text in job.headers:
        (folder / name).write_text(text, encoding="utf-8")
        include = [folder, *(path for path in include if path != folder)]
    flags = (*_cpu_flags(job.cpu), *job.flags)

    def one(source: tuple[str, Path]) -> Path:
        name, path = source
        output = folder / f"{name}.o"
        compile_object(job.cpu, flags, include, path, output)
        return output

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, (*job.sources, *library_sources(job.cpu))))


def _cpu_flags(cpu: Cpu) -> list[str]:
    variable = HOST_FLAGS_VARIABLE if cpu.arch == HOST else FIRMWARE_FLAGS_VARIABLE
    return [*C_FLAGS, *cpu.cflags, *cpu.optimize, *os.environ.get(variable, "").split()]


def library_folders(cpu: Cpu) -> tuple[Path, ...]:
    """The folder of headers that stand in for a C library that the CPU's toolchain lacks."""
    return () if cpu.library is None else (firmware(cpu.library),)


def library_sources(cpu: Cpu) -> tuple[tuple[str, Path], ...]:
    """The C files of that library under the names of their objects."""
    return tuple((f"library.{p.stem}", p) for folder in library_folders(cpu) for p in sorted(folder.glob("*.c")))


def package_sources(package: Package) -> tuple[tuple[str, Path], ...]:
    """The package's own C files under the names of their objects."""
    return tuple((f"package.{path.stem}", path) for path in package.sources)


def server_names(package: Package) -> tuple[str, ...]:
    """Flags by which main.c, written for the prefix embbert, serves a package of another."""
    prefix, names = package.prefix, served_names(package)
    return (f'-DEMBBERT_HEADER="{prefix}.h"', *(f"-D{ours}={name}" for ours, name in names.items())) if names else ()


def served_names(package: Package) -> dict[str, str]:
    """The package's names by those that main.c has for them; none where they are the same."""
    prefix = package.prefix
    if prefix == "embbert":
        return {}
    (header,) = (path for folder in package.includes for path in folder.glob(f"{prefix}.h"))
    words = rf"\b(?:{prefix}_\w+|{prefix.upper()}_(?!H\b)\w+)\b"
    names = {f"{prefix}_step", f"{prefix}_trace", *re.findall(words, header.read_text(encoding="utf-8"))}
    return {("EMBBERT" if name.isupper() else "embbert") + name[len(prefix) :]: name for name in sorted(names)}


def _room_for_texts(package: Package, host: bool, emulated: bool) -> tuple[str, ...]:
    """Flags by which the server takes the longest texts, where the model reads texts whole and memory is no matter."""
    if not package.reads_text or not (host or emulated):
        return ()
    room = _HOST_TEXT_BYTES if host else max(4 * package.max_length, _EMULATED_TEXT_BYTES)
    return (f"-DSERVER_TEXT_BYTES={room}u",)


def _job(package: Package, cpu: Cpu, board: Board | None, flags: Sequence[str], emulated: bool) -> Job:
    names = [*SERVER, *cpu.firmware]
    headers = []
    if board is not None:
        if board.uart is None or board.uart.driver is None:
            raise InputError(
                f"{board.name}: its board file names no driver for its serial port, so that nothing can speak to it: "
                "compile for it and take the C into a firmware with `embbert-tvm project`"
            )
        names += [*BOARD_SUPPORT, board.uart.driver]
        headers.append((board_header.NAME, board_header.board_header(board, emulated=emulated)))
    examples = [firmware("examples")] if any(flag.startswith("-DSERVER_EXAMPLES") for flag in flags) else []
    return Job(
        cpu=cpu,
        sources=(
            *package_sources(package),
            *(("firmware.embbert_examples", folder / "embbert_examples.c") for folder in examples),
            *((f"firmware.{Path(name).stem}", firmware("src", name)) for name in names),
        ),
        includes=(*package.includes, firmware("include"), *examples),
        flags=(*server_names(package), *_room_for_texts(package, board is None, emulated), *flags),
        link_flags=(*cpu.ldflags, "-Wl,--gc-sections"),
        script=linker_script(board, package) if board else None,
        headers=tuple(headers),
    )


def _compile(job: Job, folder: Path, name: str) -> None:
    objects = compile_objects(job, folder)
    script: list[str] = []
    if job.script is not None:
        (folder / "link.ld").write_text(job.script, encoding="ascii")
        script = ["-T", str(folder / "link.ld"), f"-Wl,-Map={folder / 'firmware.map'}"]
    link: list[str | Path] = [
        *job.cpu.cflags,
        *job.flags,
        *objects,
        *script,
        *job.link_flags,
        *job.cpu.libraries,
        "-o",
        folder / "firmware.elf",
    ]
    call(job.cpu, "gcc", link, name)
    for unwanted in objects:
        unwanted.unlink()


def _digest(job: Job) -> str:
    """A hash of the compiler, the flags and every file that goes in."""
    digest = hashlib.sha256()

    def add(parts: Iterable[str | bytes]) -> None:
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "little") + data)

    add([call(job.cpu, "gcc", ["--version"], "its version"), job.script or ""])
    flags = [*_cpu_flags(job.cpu), "|", *job.flags, "|", *job.link_flags]
    add([*flags, "|", *job.cpu.libraries])
    for name, text in job.headers:
        add([name, text])
    sources = [path for _, path in (*job.sources, *library_sources(job.cpu))]
    headers = {path for folder in (*job.includes, *(p.parent for p in sources)) for path in folder.glob("*.h")}
    for path in (*sources, *sorted(headers)):
        add([path.name, path.read_bytes()])
    return digest.hexdigest()[:16]
