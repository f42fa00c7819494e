"""The figures of a package that a page shows, read from its files; nothing is computed anew but its size."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embbert_tvm.data.files import write_atomically
from embbert_tvm.device.footprint import footprint
from embbert_tvm.device.package import Package, StepRecord, load_package
from embbert_tvm.device.toolchain import MissingTool
from embbert_tvm.errors import InputError
from embbert_tvm.measuring.sensitivity import Sensitivity, read_sensitivity
from embbert_tvm.reasons import IN_FLOAT_BY_RIGHT, ROW_BY_ROW
from embbert_tvm.target import load_cpu

FILE = "report.json"
_LAYER = re.compile(r".*?_\d+(?=_|$)")
# How a constant is stored, and what it is for, by the end of its name; all others are scales.
_STORED = re.compile(r"(_(interleaved|codes|int8|int16))+$")
_KINDS = {"weight": "weights", "table": "tables", "embedding_rows": "tables", "lookup": "tables", "exp": "tables"}


@dataclass(frozen=True)
class Tensor:
    """A tensor's place in the arena, and the first and last step that need it."""

    name: str
    offset: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Operator:
    """An operator of the model: which kernel computes it, in what precision, and why."""

    name: str
    kernel: str
    precision: str
    reason: str

    @property
    def fell_back(self) -> bool:
        """Whether it runs in floating point, or outside of the loops over blocks of rows, though not asked to."""
        return self.remedy is not None

    @property
    def remedy(self) -> str | None:
        """What would help; None where nothing fell back."""
        if self.reason.startswith(ROW_BY_ROW):
            return "a stage of the loops over blocks of rows that takes it (docs/adding-an-operator.md)"
        if self.precision == "float32" and self.reason not in IN_FLOAT_BY_RIGHT:
            return "another operator in the model (docs/quantization.md), or a kernel (docs/adding-an-operator.md)"
        return None


@dataclass(frozen=True)
class PackageFigures:
    """What is known of a package.

    Args:
        flash, ram: bytes by part; None for what only the target's toolchain could tell.
        constants: bytes of the weights, scales and tables by layer and kind; empty where the package does not say.
        profile: what `profile --json` printed; None where nothing was measured.
        sensitivity: what the search for a plan measured; None where the plan was given.
    """

    package: Package
    flash: Mapping[str, int | None]
    ram: Mapping[str, int | None]
    tensors: tuple[Tensor, ...]
    constants: Mapping[str, Mapping[str, int]]
    operators: tuple[Operator, ...]
    profile: Mapping[str, Any] | None = None
    sensitivity: Sensitivity | None = None

    @property
    def name(self) -> str:
        return self.package.path.resolve().name

    @property
    def flash_total(self) -> int | None:
        return _total(self.flash)

    @property
    def ram_total(self) -> int | None:
        return _total(self.ram)

    def macs_at(self, length: int) -> int:
        """Multiplications of a text of so many tokens, of the steps that tell."""
        return sum(step.macs_at(length) or 0 for step in self.package.steps)

    def memory(self, kind: str) -> int | None:
        """Bytes of flash or RAM of the board that it was compiled for; None where for a CPU."""
        board = self.package.board
        return None if board is None else sum(region.bytes for region in board.memory if region.kind == kind)


def _total(parts: Mapping[str, int | None]) -> int | None:
    known = [value for value in parts.values() if value is not None]
    return sum(known) if len(known) == len(parts) else None


def layer_of(name: str) -> str:
    """The layer of an operator or constant: its name up to the first number, as `blocks_0` of `blocks_0_query`."""
    found = _LAYER.match(name)
    return found[0] if found else name.partition("_")[0]


def by_layer(constants: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Bytes of constants by layer and kind, layers in the order of the constants."""
    found: dict[str, dict[str, int]] = {}
    for name, size in constants.items():
        name = _STORED.sub("", name)
        kind = _KINDS.get(name.rpartition("_")[2], "scales")
        kinds = found.setdefault(layer_of(name), {"weights": 0, "scales": 0, "tables": 0})
        kinds[kind] += size
    return found


def record(folder: Path, sizes: Mapping[str, Any]) -> None:
    """Keep what was measured of a package beside it. sizes: `flash_bytes` and `ram_bytes`, as `compile --json` has."""
    package = load_package(folder)
    kept = {"hash": f"{package.hash:08x}"} | {
        kind: {name: value for name, value in sizes[kind].items() if name != "total"}
        for kind in ("flash_bytes", "ram_bytes")
    }
    write_atomically(folder / FILE, (json.dumps(kept, indent=2) + "\n").encode())


def read_figures(folder: Path, profile: Path | None = None) -> PackageFigures:
    """The figures of the package in a folder. profile: a file of what `profile --json` printed of it.

    Raises InputError where the folder is no package, or the profile is of another.
    """
    package = load_package(folder)
    sizes = _recorded(package) or _measured(package)
    try:
        tensors, constants, operators = _entries(package.metadata)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder}/metadata.json: arena, constants or operators ({error!r}): compile again") from error
    return PackageFigures(
        package,
        sizes["flash_bytes"],
        sizes["ram_bytes"],
        tensors,
        constants,
        operators,
        None if profile is None else _profile(profile, package.steps),
        read_sensitivity(folder),
    )


def _entries(
    metadata: Mapping[str, Any],
) -> tuple[tuple[Tensor, ...], dict[str, dict[str, int]], tuple[Operator, ...]]:
    """The tensors, constants by layer, and operators that a package's metadata says."""
    tensors = tuple(
        Tensor(str(t["name"]), *(int(t[key]) for key in ("offset", "bytes", "first", "last")))
        for t in metadata["arena"]["tensors"]
    )
    constants = {str(name): int(size) for name, size in metadata.get("constants", {}).items()}
    operators = tuple(
        Operator(*(str(o[key]) for key in ("name", "kernel", "precision", "reason"))) for o in metadata["operators"]
    )
    return tensors, by_layer(constants), operators


def _recorded(package: Package) -> dict[str, dict[str, int | None]] | None:
    """What `record` kept; None where there is nothing, or of other C."""
    try:
        kept = json.loads((package.path / FILE).read_text(encoding="utf-8"))
        if kept["hash"] != f"{package.hash:08x}":
            return None
        return {
            kind: {str(part): None if size is None else int(size) for part, size in kept[kind].items()}
            for kind in ("flash_bytes", "ram_bytes")
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _measured(package: Package) -> dict[str, dict[str, int | None]]:
    weights, arena = package.weights_bytes, package.arena_bytes
    try:
        found = footprint(package, load_cpu(package.target))
    except MissingTool:
        flash: dict[str, int | None] = {"code": None, "weights": weights, "tokenizer": None}
        return {"flash_bytes": flash, "ram_bytes": {"arena": arena, "stack": None, "static": None}}
    return {
        "flash_bytes": {"code": found.code, "weights": weights, "tokenizer": found.tokenizer},
        "ram_bytes": {"arena": arena, "stack": found.stack, "static": found.static},
    }


def _profile(path: Path, steps: Sequence[StepRecord]) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        names = [[layer["name"] for layer in one["layers"]] for one in found["lengths"]]
        for one in found["lengths"]:
            numbers = [one["length"], one["total_instructions"], one["total_cycles"], found.get("longest_slice")]
            numbers += [one.get(cost) for cost in ("milliseconds", "millijoules")]
            for layer in one["layers"]:
                numbers += [layer["instructions"], layer["cycles"], float(layer["share"])]
            sum(float(number) for number in numbers if number is not None)
        said = [found["on"]]
        if (estimate := found.get("estimate")) is not None:
            said += [estimate["board"], estimate["assumptions"]]
        " ".join(said)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is not what `profile --json` printed: {error}") from error
    if not names or any(of_length != [step.name for step in steps] for of_length in names):
        raise InputError(f"{path}: is a profile of another package: profile this one with --json")
    return found
