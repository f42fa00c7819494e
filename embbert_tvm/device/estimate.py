"""Time and energy of a run on a board, estimated from counted instructions and the board's data sheet."""

from __future__ import annotations

from dataclasses import dataclass

from embbert_tvm.target import Board, Cpu


@dataclass(frozen=True)
class Estimate:
    """How counts become time and energy.

    Args:
        cycles_per_count: 1 where cycles were measured.
        milliamperes: at `clock_hz`; None where the board's file tells no current, so that there is no energy.
        assumptions: in words, for people.
    """

    board: str
    clock_hz: int
    cycles_per_count: float
    milliamperes: float | None
    volts: float | None
    assumptions: str

    def milliseconds(self, count: int) -> float:
        return count * self.cycles_per_count / self.clock_hz * 1e3

    def milliseconds_of_cycles(self, cycles: float) -> float:
        """The time of cycles that a model of the core's pipeline gives."""
        return cycles / self.clock_hz * 1e3

    def millijoules(self, count: int) -> float | None:
        if self.milliamperes is None or self.volts is None:
            return None
        return self.milliseconds(count) * self.milliamperes * self.volts / 1e3


def estimate(board: Board, cpu: Cpu, measured_clock_hz: int | None = None) -> Estimate | None:
    """The estimate of a board; None where nothing is known of its core.

    measured_clock_hz: of the device that counted cycles, None for instructions that QEMU counted.
    """
    measured = measured_clock_hz is not None
    if not measured and cpu.cycles_per_instruction is None:
        return None
    clock = measured_clock_hz or board.clock_hz
    words = [f"{cpu.name} at {clock / 1e6:g} MHz"]
    if not measured:
        words += [f"{cpu.cycles_per_instruction:g} cycles an instruction by models of its pipeline"]
        words += ["caches warm and no wait states", "not measured on silicon"]
    power = board.power
    if power is not None:
        words.append(f"{power.milliamperes:g} mA at {power.at_hz / 1e6:g} MHz, {power.volts:g} V ({power.source})")
    return Estimate(
        board.name,
        clock,
        1.0 if measured else float(cpu.cycles_per_instruction or 1),
        None if power is None else power.milliamperes * clock / power.at_hz,
        None if power is None else power.volts,
        "; ".join(words),
    )
