"""Where `tune` measures, by its options."""

from __future__ import annotations

from collections.abc import Sequence

from embbert_tvm.errors import InputError
from embbert_tvm.target import Board, Cpu, load_board
from embbert_tvm.tuning.measure import Place, QemuPlace, SerialPlace


def find_places(
    target: tuple[Cpu, Board, str],
    place: str,
    flash: str | None,
    tracker: str | None,
    key: str | None,
    objective: str,
) -> tuple[Sequence[Place], str]:
    """The places and what a log calls them. InputError for options that do not go together."""
    cpu, board, _ = target
    serial = place.startswith("serial:")
    if not serial and place != "qemu":
        raise InputError(f"--on {place}: tuning knows qemu and serial:PORT[@BAUD]")
    if flash is not None and not (serial and tracker is None):
        raise InputError("--flash: is of a board of this machine: needs --on serial:PORT")
    if key is not None and tracker is None:
        raise InputError(f"--key {key}: is of a farm: needs --tracker HOST:PORT")
    if tracker is not None and place != "qemu":
        raise InputError(f"--tracker {tracker}: measures on the farm's boards: leave --on {place} out")
    if tracker is not None:
        from embbert_tvm.tuning.farm import farm_places

        if objective == "mca":
            raise InputError("--objective mca: needs QEMU's trace on this machine: leave --tracker out")
        return farm_places(tracker, key or board.name), "rpc"
    if serial:
        if flash is None:
            raise InputError(f"--on {place}: needs --flash COMMAND, which puts {{image}} on the board")
        if objective != "cycles":
            raise InputError(f"--objective {objective}: a board counts cycles: ask for --objective cycles")
        return [SerialPlace(place.partition(":")[2], flash)], "serial"
    if objective == "cycles":
        raise InputError("--objective cycles: QEMU counts instructions; ask for mca, or measure --on serial:PORT")
    if objective == "mca":
        from embbert_tvm.cycles.tool import find_mca
        from embbert_tvm.tuning.mca import McaPlace

        find_mca()
        return [McaPlace(QemuPlace(emulated(cpu, board)), cpu, board)], "qemu+mca"
    return [QemuPlace(emulated(cpu, board))], "qemu"


def emulated(cpu: Cpu, board: Board) -> Board:
    """The board that QEMU runs in the place of one that it does not know: that which emulates its CPU."""
    return board if board.qemu is not None or cpu.emulation_board is None else load_board(cpu.emulation_board)
