"""Cycles of a whole inference: every basic block that QEMU ran, by each of the models and by the worst."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from embbert_tvm.cycles.caches import Caches, Fills, read_fills
from embbert_tvm.cycles.counting import Counts, joined, options, plugin, read_counts
from embbert_tvm.cycles.image import Code, read_code
from embbert_tvm.cycles.model import Model, model_of
from embbert_tvm.device.device import Device, PlaceTraits
from embbert_tvm.device.package import Package
from embbert_tvm.device.profile import synthetic_ids
from embbert_tvm.device.qemu import TIMEOUT, emulation, start_qemu
from embbert_tvm.errors import InputError
from embbert_tvm.target import Board, load_cpu

WORST = "worst"


@dataclass(frozen=True)
class Function:
    """A function's share. cycles: by model, and by WORST, the sum over its blocks of the worst model of each."""

    name: str
    instructions: int
    cycles: dict[str, float]


@dataclass(frozen=True)
class InferenceCycles:
    """An inference of `length` tokens. clock: the instructions that QEMU's own clock counted, which the functions'
    should be within a tick of; assumed: instructions of blocks that llvm-mca could not be asked of; fills: of cache
    lines, where they were requested."""

    length: int
    functions: tuple[Function, ...]
    clock: int
    assumed: int
    fills: Fills | None = None

    @property
    def instructions(self) -> int:
        return sum(f.instructions for f in self.functions)

    @property
    def cycles(self) -> dict[str, float]:
        total: Counter[str] = Counter()
        for function in self.functions:
            total.update(function.cycles)
        return dict(total)


def inference_cycles(
    package: Package, lengths: Sequence[int], caches: Caches | None = None, timed: Board | None = None
) -> list[InferenceCycles]:
    """Cycles of a package on the board that emulates its CPU, at several lengths of text.

    timed: the board whose flash the core waits for, in the place of the emulated one.

    Raises InputError for a length that the package does not take, a CPU that QEMU does not emulate, and where QEMU,
    llvm-mca or the toolchain is missing.
    """
    for length in lengths:
        if not 1 <= length <= package.max_length:
            raise InputError(f"length {length}: {package.path} takes 1 to {package.max_length} tokens")
    board, command = emulation(package)
    assert board.qemu is not None
    cpu, image = load_cpu(board.cpu), Path(command[-1])
    model, code = model_of(cpu, timed or board), read_code(cpu, image, library=True)
    with tempfile.TemporaryDirectory(prefix="embbert-") as name:
        folder = Path(name)
        counts, fills = folder / "counts", folder / "fills"
        command = [*command, *options(command[0], folder, counts)]
        if caches is not None:
            command += ["-plugin", caches.option(plugin("lines", command[0], folder), board, code, fills)]
        device = Device(
            start_qemu(command, board.qemu.machine),
            package,
            f"qemu:{board.name}",
            10 * TIMEOUT,
            PlaceTraits(
                board.qemu.instructions_per_tick, drops_input_until_enabled=board.qemu.drops_input_until_enabled
            ),
        )
        found = []
        with closing(device):
            device.check()
            for length in lengths:
                ids = synthetic_ids(package, length)
                device.run(ids)  # translates every block and warms the caches
                before = read_counts(counts, code), read_fills(fills) if caches else None
                clock = device.run(ids).instructions or 0
                ran = read_counts(counts, code) - before[0]
                filled = read_fills(fills).since(before[1]) if before[1] is not None else None
                found.append(weigh(length, ran, code, model, clock, filled))
    return found


def weigh(
    length: int, ran: Counts, code: Code, model: Model, clock: int = 0, fills: Fills | None = None
) -> InferenceCycles:
    """What was counted, by function."""
    ran = joined(ran, code)
    blocks = {at: code.block(*at) for at in ran}
    each = model.each(blocks.values())
    instructions: Counter[str] = Counter()
    cycles: dict[str, Counter[str]] = {}
    assumed = 0
    for at, times in ran.items():
        name, figures = code.function(at[0]) or "", each[blocks[at]]
        instructions[name] += times * at[1]
        cycles.setdefault(name, Counter()).update({model: times * figure for model, figure in figures.items()})
        cycles[name][WORST] += times * max(figures.values())
        assumed += times * at[1] if model.is_assumed(blocks[at]) else 0
    functions = (Function(name, count, dict(cycles[name])) for name, count in instructions.items())
    return InferenceCycles(length, tuple(sorted(functions, key=lambda f: -f.cycles[WORST])), clock, assumed, fills)
