"""Instructions of each step of a package, or on a board its cycles, at several lengths."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from embbert_tvm.device import protocol
from embbert_tvm.device.device import RunResult, Slices
from embbert_tvm.device.package import Package
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.progress import over


@dataclass(frozen=True)
class Layer:
    """A step: its instructions, or on a board its cycles, those of noting them included (about 50 instructions); its
    share of all steps."""

    name: str
    kernel: str
    instructions: int | None
    cycles: int | None
    macs: int | None
    share: float


@dataclass(frozen=True)
class LengthProfile:
    """A run of `length` tokens. total_instructions: of a build that measures nothing, so less than the layers' sum;
    total_cycles: of the firmware that is on the board."""

    length: int
    total_instructions: int | None
    total_cycles: int | None
    total_macs: int | None
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Profile:
    """What a place counted.

    Args:
        stack: bytes that the firmware used at the deepest, from the painted stack; None where not known.
        clock_hz: of the device where cycles were counted and it tells its clock.
        slices: of a run of the last length in slices as short as can be; None where the firmware knows none.
    """

    on: str
    lengths: tuple[LengthProfile, ...]
    stack: int | None
    clock_hz: int | None = None
    slices: Slices | None = None


def synthetic_ids(package: Package, length: int) -> list[int]:
    """Token ids all over the vocabulary, the same each time."""
    known = package.vocabulary
    return [(i * 2654435761 + 12345) % 2**32 * known >> 32 for i in range(length)]


def profile(
    package: Package,
    place: str,
    lengths: Sequence[int],
    timeout: float | None = None,
) -> Profile:
    """Run the package in `place` on synthetic token ids of each length, whole and step by step.

    Raises InputError for a length that the package does not take and a place that counts nothing.
    """
    for length in lengths:
        if not 1 <= length <= package.max_length:
            raise InputError(f"length {length}: {package.path} takes 1 to {package.max_length} tokens")
    if place == "host":
        raise InputError("the host counts no instructions: profile --on qemu, with a package for its CPU")
    if not package.steps:
        raise InputError(f"{package.path}: has no steps to measure")
    with ExitStack() as stack:
        whole = steps = stack.enter_context(open_place(place, package, timeout))
        held = whole.holds
        if held is None or not held.counts:
            raise WorkError(f"{whole.place} counts nothing: profile on qemu")
        # For the server, and for the package whose macros have its own prefix.
        flags = {f"-D{name}_PROFILE={len(package.steps)}" for name in ("EMBBERT", package.prefix.upper())}
        if not place.startswith("serial"):
            steps = stack.enter_context(open_place(place, package, timeout, flags=sorted(flags)))
        elif not held.features & protocol.FEATURE_PROFILE:
            raise WorkError(
                f"{place}: its firmware does not measure steps: put one of `embbert-tvm firmware` on the board, "
                f"or build yours with {' '.join(sorted(flags))}"
            )
        found, deepest = [], None
        for length in over(lengths, "profiling", "lengths"):
            ids = synthetic_ids(package, length)
            run = whole.run(ids)
            deepest = run.stack
            found.append(_length_profile(package, length, run, steps.profile(ids)))
        in_slices = lengths and held.features & protocol.FEATURE_SLICES
        slices = whole.slices(synthetic_ids(package, lengths[-1])) if in_slices else None
    on_board = found[0].total_instructions is None if found else False
    return Profile(whole.place, tuple(found), deepest, held.clock_hz or None if on_board else None, slices)


def _length_profile(package: Package, length: int, run: RunResult, counts: Sequence[int]) -> LengthProfile:
    every = sum(counts) or 1
    on_board = run.instructions is None
    layers = tuple(
        Layer(
            step.name,
            step.kernel,
            None if on_board else count,
            count if on_board else None,
            step.macs_at(length),
            count / every,
        )
        for step, count in zip(package.steps, counts, strict=True)
    )
    macs = [layer.macs for layer in layers]
    total = None if None in macs else sum(m for m in macs if m)
    return LengthProfile(length, run.instructions, run.cycles, total, layers)
