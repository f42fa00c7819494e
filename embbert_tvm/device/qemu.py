"""A package on a board that QEMU emulates, spoken to over the board's UART on QEMU's stdin and stdout."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from embbert_tvm.device.build import build
from embbert_tvm.device.device import Device, PlaceTraits
from embbert_tvm.device.link import ProcessLink
from embbert_tvm.device.package import Package
from embbert_tvm.errors import InputError
from embbert_tvm.target import Board, Qemu, load_board, load_cpu

TIMEOUT = 120.0


def emulation_board(package: Package, name: str | None = None) -> tuple[Board, Qemu]:
    """The board of that name, or the package's own, or one that has its CPU; InputError where QEMU has none."""
    cpu = load_cpu(package.target)
    if name is None:
        if package.board is not None and package.board.qemu is not None:
            return package.board, package.board.qemu
        if cpu.emulation_board is None:
            raise InputError(f"{package.path}: QEMU emulates no board of its target {cpu.name}: use --on host")
        name = cpu.emulation_board
    board = load_board(name)
    if board.qemu is None:
        raise InputError(
            f"QEMU does not emulate {board.name}: its board file has no qemu section: "
            "put an image of `embbert-tvm firmware` on the board and use --on serial:PORT"
        )
    if board.cpu != cpu.name and board.name != cpu.emulation_board:
        raise InputError(f"{board.name} has a {board.cpu}, the package was compiled for {cpu.name}: compile it again")
    return board, board.qemu


# One instruction a nanosecond, so that the clock counts them exactly.
COUNTING = ("-icount", "shift=0")


def emulation(
    package: Package, board_name: str | None = None, flags: Sequence[str] = (), serial: str = "stdio"
) -> tuple[Board, list[str]]:
    """The board that runs the package and QEMU's command line for it, without COUNTING; its UART goes to `serial`."""
    board, qemu = emulation_board(package, board_name)
    program = shutil.which(qemu.program)
    if program is None:
        raise InputError(f"{qemu.program} is not installed: `apt-get install {qemu.package}`, or make demo")
    image = build(package, load_cpu(board.cpu), board, flags, emulated=True)
    # Not -nographic, which would put QEMU's own monitor on the same stdin.
    command = [program, "-M", qemu.machine, *qemu.options, "-display", "none", "-monitor", "none", "-serial", serial]
    return board, [*command, "-kernel", str(image)]


def start_qemu(command: Sequence[str], machine: str) -> ProcessLink:
    """QEMU, which counts instructions, by a command line that gives the board's UART its stdin and stdout."""
    link = ProcessLink([*command, *COUNTING], f"QEMU ({machine})")
    link.write(b"\0")  # firmware that is about to listen may drop a byte
    return link


def open_qemu(
    package: Package, board_name: str | None = None, timeout: float | None = None, flags: Sequence[str] = ()
) -> Device:
    """The package's C in QEMU, which counts instructions exactly."""
    board, command = emulation(package, board_name, flags)
    assert board.qemu is not None
    return Device(
        start_qemu(command, board.qemu.machine),
        package,
        f"qemu:{board.name}",
        timeout or TIMEOUT,
        PlaceTraits(board.qemu.instructions_per_tick, drops_input_until_enabled=board.qemu.drops_input_until_enabled),
    )
