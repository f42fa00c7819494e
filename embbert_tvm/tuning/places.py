"""Where `tune` measures, by its options."""

from __future__ import annotations

from collections.abc import Sequence

from embbert_tvm.errors import InputError
from embbert_tvm.target import Board, Cpu
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
    # A CPU without a board that QEMU knows, as of a file of one's own, runs on the one that emulates its CPU.
    if objective == "cycles":
        raise InputError("--objective cycles: QEMU counts instructions; ask for mca, or measure --on serial:PORT")
    if objective == "mca":
        from embbert_tvm.cycles.tool import find_mca
        from embbert_tvm.tuning.mca import McaPlace

        find_mca()
        return [McaPlace(QemuPlace(board), cpu)], "qemu+mca"
    return [QemuPlace(board)], "qemu"
