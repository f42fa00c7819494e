"""Which operator is the first to differ: of a package between two places, or between a package and its float model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from embbert_tvm.device.device import Device
from embbert_tvm.device.package import OutputRecord, Package
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.progress import over

# By how much of a float tensor's largest magnitude two places may differ.
FLOAT_TOLERANCE = 1e-4
# By how much of a float tensor's root mean square its int8 counterpart may differ, root mean square.
QUANTIZED_TOLERANCE = 0.5

Float = Callable[[Sequence[int]], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Difference:
    """Where an output of a step differs most, and by how much.

    absolute: the largest error of an element, in real units where the scale of its int8 is known; relative: that, over
    the largest magnitude of what it should be; lsb: in steps of an integer, None for floats. rms: root mean square of
    all errors over that of what should be. differing of `elements` are not the same bits, or, against float, more than
    one step away.
    """

    step: str
    kernel: str
    output: str
    example: int
    tokens: int
    element: int
    found: float
    expected: float
    absolute: float
    relative: float
    lsb: float | None
    rms: float
    differing: int
    elements: int


@dataclass(frozen=True)
class OutputError:
    """What a step makes, and its rms as of `Difference`, in the mean over texts."""

    output: str
    step: str
    kernel: str
    rms: float


@dataclass(frozen=True)
class Location:
    """outputs: how many tensors were compared. first: in the program's order, None where all agree; worst: of all
    compared, the one of the largest rms."""

    on: str
    against: str
    examples: int
    outputs: int
    first: Difference | None
    worst: Difference | None


def open_traced(place: str, package: Package) -> Device:
    """A device whose firmware shows what each step makes. WorkError for one behind a serial port that does not."""
    if not package.outputs:
        raise InputError(f"{package.path}: does not say what its steps make: compile the model again")
    flags = {f"-D{name}_TRACE={len(package.outputs)}" for name in ("EMBBERT", package.prefix.upper())}
    device = open_place(place, package, flags=sorted(flags))
    if not device.can_trace:
        device.close()
        words = f"build it with {' '.join(sorted(flags))} and put it on the board"
        raise WorkError(f"{place}: its firmware does not show what steps make: {words}")
    return device


def against_place(
    package: Package,
    texts: Sequence[Sequence[int]],
    place: str,
    other: str,
) -> Location:
    """Compare every output of every step between two places, bit for bit; floats within FLOAT_TOLERANCE."""
    found: list[Difference] = []
    with ExitStack() as stack:
        one = stack.enter_context(open_traced(place, package))
        two = stack.enter_context(open_traced(other, package))
        for number, ids in enumerate(over(texts, "comparing operators", "texts"), 1):
            differs = [a != b for a, b in zip(one.digests(ids), two.digests(ids), strict=True)]
            for index in (i for i, different in enumerate(differs) if different):
                difference = _exact(package, index, number, ids, one.output(index, ids), two.output(index, ids))
                if difference is not None:
                    found.append(difference)
                    break  # what follows has wrong inputs
    return _location(package, place, other, texts, len(package.outputs), found)


def against_float(
    package: Package,
    texts: Sequence[Sequence[int]],
    place: str,
    reference: Float,
) -> Location:
    """Compare every output that stands for a float tensor with it, within QUANTIZED_TOLERANCE.

    reference: from token ids to the float tensors by name.
    """
    every = _from_float(package, texts, place, reference)
    outputs = sum(output.origin is not None for output in package.outputs)
    first = [d for d in every if not d.rms <= QUANTIZED_TOLERANCE]
    location = _location(package, place, "float", texts, outputs, first)
    return Location(place, "float", len(texts), outputs, location.first, max(every, key=_rms, default=None))


def output_errors(
    package: Package, texts: Sequence[Sequence[int]], place: str, reference: Float
) -> tuple[OutputError, ...]:
    """The error of every output that stands for a float tensor, as of `against_float`, in the program's order."""
    found: dict[str, list[Difference]] = {}
    for difference in _from_float(package, texts, place, reference):
        found.setdefault(difference.output, []).append(difference)
    return tuple(
        OutputError(output, of[0].step, of[0].kernel, sum(d.rms for d in of) / len(of)) for output, of in found.items()
    )


def _from_float(package: Package, texts: Sequence[Sequence[int]], place: str, reference: Float) -> list[Difference]:
    """The differences of each text's outputs from the float model's tensors."""
    compared = [(i, output.origin) for i, output in enumerate(package.outputs) if output.origin is not None]
    if not compared:
        raise InputError(f"{package.path}: no step makes what the float model has: compare it with --against host")
    every: list[Difference] = []
    with open_traced(place, package) as device:
        for number, ids in enumerate(over(texts, "comparing operators", "texts"), 1):
            tensors = reference(ids)
            for index, origin in compared:
                every.append(_close(package, index, number, ids, device.output(index, ids), tensors[origin]))
    return every


def _rms(difference: Difference) -> float:
    return difference.rms


def _location(
    package: Package, place: str, other: str, texts: Sequence[object], outputs: int, found: Sequence[Difference]
) -> Location:
    order = {output.name: number for number, output in reversed(list(enumerate(package.outputs)))}
    first = min(found, key=lambda d: (order[d.output], d.example), default=None)
    return Location(place, other, len(texts), outputs, first, max(found, key=_rms, default=None))


def _exact(
    package: Package, index: int, example: int, ids: Sequence[int], found: np.ndarray, expected: np.ndarray
) -> Difference | None:
    """None where a float output is within its tolerance."""
    output = package.outputs[index]
    if found.shape != expected.shape:
        raise WorkError(f"{output.name}: {found.size} elements in one place, {expected.size} in the other")
    real = output.scale or 1.0
    values = found.astype(np.float64) * real, expected.astype(np.float64) * real
    bits = found.view(f"u{found.itemsize}") != expected.view(f"u{found.itemsize}")
    difference = _difference(package, output, (example, len(ids)), *values, int(bits.sum()))
    if found.dtype.kind == "f" and difference.relative <= FLOAT_TOLERANCE:
        return None
    return difference


def _close(
    package: Package, index: int, example: int, ids: Sequence[int], found: np.ndarray, tensor: np.ndarray
) -> Difference:
    output = package.outputs[index]
    expected = tensor.reshape(-1, tensor.shape[-1]).astype(np.float64)
    real = rows(output, found, *expected.shape).astype(np.float64) * (output.scale or 1.0)
    step = output.scale or FLOAT_TOLERANCE * float(np.abs(expected).max(initial=0.0))
    return _difference(
        package, output, (example, len(ids)), real, expected, int((np.abs(real - expected) > step).sum())
    )


def rows(output: OutputRecord, flat: np.ndarray, count: int, width: int) -> np.ndarray:
    """`count` rows of `width` elements of what a step made; WorkError where it is of another shape."""
    interleave = output.interleave
    if interleave > 1 and flat.size % (interleave * width) == 0 and flat.size >= count * width:
        laid_out: np.ndarray = flat.reshape(-1, width, interleave).transpose(0, 2, 1).reshape(-1, width)[:count]
        return laid_out
    if interleave > 1 or flat.size != count * width:
        raise WorkError(f"{output.name} has {flat.size} elements where the float model has {count} x {width}")
    return flat.reshape(count, width)


def _difference(
    package: Package,
    output: OutputRecord,
    text: tuple[int, int],
    found: np.ndarray,
    expected: np.ndarray,
    differing: int,
) -> Difference:
    """text: its number and its tokens. differing: how many elements do."""
    errors = np.abs(found - expected)
    errors[np.isnan(errors)] = np.inf
    at = int(errors.argmax()) if errors.size else 0
    peak = float(np.abs(expected).max(initial=0.0)) or 1.0
    mean = float(np.sqrt(np.mean(np.square(expected)))) or 1.0
    step = package.steps[output.step]
    integer = np.dtype(output.dtype).kind != "f"
    return Difference(
        step=step.name,
        kernel=step.kernel,
        output=output.name,
        example=text[0],
        tokens=text[1],
        element=at,
        found=float(found.flat[at]),
        expected=float(expected.flat[at]),
        absolute=float(errors.flat[at]),
        relative=float(errors.flat[at]) / peak,
        lsb=float(errors.flat[at]) / (output.scale or 1.0) if integer else None,
        rms=float(np.sqrt(np.mean(np.square(errors)))) / mean,
        differing=differing,
        elements=int(errors.size),
    )
