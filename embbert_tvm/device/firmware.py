"""An image to flash: the package with the protocol server, for a real board, in the formats that programmers take."""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from embbert_tvm.data.files import folder_in_place, write_atomically
from embbert_tvm.device.build import build
from embbert_tvm.device.elf import Piece, flat, loaded
from embbert_tvm.device.package import Package
from embbert_tvm.device.toolchain import call, run_tool
from embbert_tvm.device.uf2 import uf2
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.target import Board, Cpu, load_cpu

_SPARSE = 2  # an image that spans more than so many times its bytes makes no flat file


@dataclass(frozen=True)
class Firmware:
    """The files of an image by format (elf, map, hex; bin where it is of one piece; uf2 where the board takes it).

    Args:
        flash_bytes: what a programmer writes.
        commands: that put it on the board, as words, the usual one first.
    """

    board: Board
    files: Mapping[str, Path]
    flash_bytes: int
    commands: tuple[tuple[str, ...], ...]


def make_firmware(package: Package, board: Board | None, out: Path) -> Firmware:
    """Build the server of a package for a board, by default the one that it was compiled for, and fill `out`.

    Every step is counted: `profile --on serial:` needs no other image. Raises InputError for a board that the package
    was not compiled for, or whose firmware another framework builds.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file: name a folder, new or your own")
    board = _board(package, board)
    cpu = load_cpu(board.cpu)
    names = sorted({"EMBBERT", package.prefix.upper()})
    flags = [f"-D{name}_PROFILE={len(package.steps)}" for name in names] if package.steps else []
    image = build(package, cpu, board, flags)
    pieces = loaded(image)
    if not pieces:
        raise WorkError(f"{image}: holds nothing to flash")
    try:
        files = _write(image, pieces, board, cpu, out)
    except OSError as error:
        raise WorkError(f"{out}: cannot be written ({error.strerror})") from error
    return Firmware(board, files, sum(len(piece.data) for piece in pieces), _commands(board, files))


def _write(image: Path, pieces: list[Piece], board: Board, cpu: Cpu, out: Path) -> dict[str, Path]:
    """The files of an image by format, in a folder that is made where there is none.

    A folder that is there keeps what else it holds, and each file in it is the old one or the new one, whole.
    """
    made = {"elf": image.read_bytes(), "map": _without_folders(image.with_suffix(".map")), "hex": _hex(image, cpu)}
    if pieces[-1].end - pieces[0].address <= _SPARSE * sum(len(piece.data) for piece in pieces):
        made["bin"] = flat(pieces)
    if board.uf2_family is not None:
        made["uf2"] = uf2(pieces, board.uf2_family)
    with nullcontext(out) if out.exists() else folder_in_place(out) as folder:
        for name, content in made.items():
            write_atomically(folder / f"firmware.{name}", content)
    return {name: out / f"firmware.{name}" for name in made}


def _without_folders(path: Path) -> bytes:
    """A linker's map, which names its objects as if they lay beside it: where they lay is another place each time."""
    return re.sub(rb"\S*/\.new-\w+/", b"", path.read_bytes())


def _hex(image: Path, cpu: Cpu) -> bytes:
    with tempfile.TemporaryDirectory(prefix="embbert-") as folder:
        path = Path(folder) / "firmware.hex"
        call(cpu, "objcopy", ["-O", "ihex", image, path], "the HEX file")
        return path.read_bytes()


def flash(firmware: Firmware) -> str:
    """Run the first of the commands whose program is installed, and return it as a shell takes it.

    Raises WorkError where it fails, InputError where there is none.
    """
    for words in firmware.commands:
        if shutil.which(words[0]) is None:
            continue
        command = shlex.join(words)
        done = run_tool(words, words[0], "a flashed board")
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            last = f": {said[-1].strip()}" if said else ""
            raise WorkError(f"`{command}` failed with status {done.returncode}{last}: is the board connected?")
        return command
    if not firmware.commands:
        raise InputError(f"{firmware.board.name}: its board file names no command that flashes it: use your programmer")
    programs = ", ".join(dict.fromkeys(words[0] for words in firmware.commands))
    raise InputError(f"nothing that flashes {firmware.board.name} is installed: it takes one of {programs}")


def _board(package: Package, board: Board | None) -> Board:
    board = board or package.board
    cpu = load_cpu(package.target)
    if board is None:
        raise InputError(f"{package.path}: was compiled for {cpu.name}, not for a board: give --board")
    emulates = board.name == cpu.emulation_board
    if board.cpu != cpu.name and not emulates:
        raise InputError(f"{board.name} has a {board.cpu}, the package was compiled for {cpu.name}: compile it again")
    if board.framework is not None:
        raise InputError(
            f"{board.name}: {board.framework} builds its firmware: "
            f"`embbert-tvm project {package.path} --template {board.framework} -o DIR` makes a project of it"
        )
    return board


def _commands(board: Board, files: Mapping[str, Path]) -> tuple[tuple[str, ...], ...]:
    """The board's commands for these files; one that needs a file that there is not is left out."""
    paths = {name: str(path) for name, path in files.items()}
    found = []
    for command in board.flash:
        try:
            found.append(tuple(word.format(**paths) for word in shlex.split(command)))
        except KeyError:
            continue
    return tuple(found)
