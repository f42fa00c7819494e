"""CPUs and boards: what targets/cpus/*.yaml and targets/boards/*.yaml say, checked.

Everything known of a CPU or a board is data there. Code asks for features and figures, never for a name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from embbert_tvm.errors import InputError
from embbert_tvm.resources import resource

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_REGION = re.compile(r"[A-Z][A-Z0-9_]*")
_C_FILE = re.compile(r"[a-z0-9_]+\.c")
_QEMU = re.compile(r"qemu-system-[a-z0-9_]+")
# Flags that tell a compiler or linker how to translate, and never what to run, read or write.
_FLAG = re.compile(
    r"-m[a-z][a-z0-9-]*(=[A-Za-z0-9+_.,-]+)?|-O([0-3sgz]|fast)?|-g[0-3]?|-std=[a-z0-9+:]+|-pedantic"
    r"|-f(?!plugin|dump|profile|save|auto-profile|test|coverage|compare)[a-z0-9-]+(=[A-Za-z0-9_-]+)?"
    r"|-W(?!p,|a,|l,)[a-z][a-z0-9+-]*(=[0-9]+)?|-D[A-Za-z_][A-Za-z0-9_]*(=[A-Za-z0-9_]*)?"
    r"|--?specs=[a-z0-9_-]+\.specs|--oslib=[a-z0-9_-]+|-static|-nostdlib|-nostartfiles|-nodefaultlibs|-nolibc|-l[a-z]+"
    r"|-Wl,--(?!plugin|dynamic-linker|rpath|wrap|script|just-symbols|version)[a-z][a-z0-9-]*(=[A-Za-z0-9_]+)?"
    r"|-Wl,-z,[a-z0-9=-]+|-Wl,-u,[A-Za-z0-9_]+"
)


def _require(condition: bool, key: str, what: str) -> None:
    if not condition:
        raise InputError(f"{key}: {what}")


def _require_strings(value: object, key: str) -> None:
    _require(
        isinstance(value, tuple) and all(isinstance(v, str) and v for v in value),
        key,
        "must be a list of strings",
    )


def _is_count(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


@dataclass(frozen=True)
class Toolchain:
    """A GCC and its binutils: `prefix` + "gcc", and the Debian packages that bring them."""

    prefix: str
    packages: tuple[str, ...]
    freestanding: bool  # an image links without an operating system

    def __post_init__(self) -> None:
        _require(
            isinstance(self.prefix, str) and bool(re.fullmatch(r"([A-Za-z0-9_.]+-)*", self.prefix)),
            "prefix",
            "must be a prefix",
        )
        _require_strings(self.packages, "packages")
        _require(isinstance(self.freestanding, bool), "freestanding", "must be true or false")


@dataclass(frozen=True)
class Llvm:
    """Options of TVM's llvm target; empty for the machine itself."""

    mtriple: str = ""
    mcpu: str = ""
    mattr: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(isinstance(self.mtriple, str), "mtriple", "must be a string")
        _require(isinstance(self.mcpu, str), "mcpu", "must be a string")
        _require_strings(self.mattr, "mattr")


@dataclass(frozen=True)
class Cpu:
    """An instruction set with its compiler.

    `features` choose the kernels (`dsp`, `mve`, `fp16`, `fpu`); `firmware` are files of embbert_tvm/firmware/src
    that start it; `emulation_board` is where `--on qemu` runs it, None where nothing emulates it; `pipelines` are the
    rules of cycles/rules.py by which cycles are estimated beside llvm-mca.
    """

    name: str
    description: str
    features: tuple[str, ...]
    toolchain: Toolchain
    cflags: tuple[str, ...]
    optimize: tuple[str, ...]
    ldflags: tuple[str, ...]
    llvm: Llvm
    firmware: tuple[str, ...]
    emulation_board: str | None = None
    pipelines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(isinstance(self.name, str) and bool(_NAME.fullmatch(self.name)), "name", "must be a plain name")
        _require(isinstance(self.description, str), "description", "must be a string")
        for key in ("features", "cflags", "optimize", "ldflags", "firmware", "pipelines"):
            _require_strings(getattr(self, key), key)
        _require(all(_C_FILE.fullmatch(f) for f in self.firmware), "firmware", "must name .c files")
        for key in ("cflags", "optimize", "ldflags"):
            for flag in getattr(self, key):
                what = f"{flag!r} is no flag that is known to run, read or write nothing (target.py has their list)"
                _require(bool(_FLAG.fullmatch(flag)), key, what)
        _require(
            self.emulation_board is None or isinstance(self.emulation_board, str),
            "emulation_board",
            "must be the name of a board",
        )


@dataclass(frozen=True)
class Region:
    """A piece of the address space. `origin` is its first address, `bytes` its size.

    A fetch of `line_bytes` makes the core wait for `wait_states` cycles; 0 where a cache hides that.
    """

    name: str
    kind: str  # "flash" or "ram"
    origin: int
    bytes: int
    wait_states: int = 0
    line_bytes: int = 8

    def __post_init__(self) -> None:
        _require(
            isinstance(self.name, str) and bool(_REGION.fullmatch(self.name)),
            "name",
            "must be capitals, as in RAM",
        )
        _require(self.kind in ("flash", "ram"), "kind", f"is {self.kind!r}, must be flash or ram")
        _require(_is_count(self.origin, 0) and self.origin < 2**32, "origin", "must be a 32-bit address")
        _require(_is_count(self.bytes), "bytes", "must be a positive number of bytes")
        _require(self.origin + self.bytes <= 2**32, "bytes", "the region ends beyond 32 bits")
        _require(_is_count(self.wait_states, 0), "wait_states", "must be a whole number of cycles")
        _require(_is_count(self.line_bytes), "line_bytes", "must be a positive number of bytes")


@dataclass(frozen=True)
class Poke:
    """A register to write before the port is used: its value without the bits of `clear`, with those of `set`."""

    address: int
    set: int
    clear: int = 0

    def __post_init__(self) -> None:
        for key in ("address", "set", "clear"):
            value = getattr(self, key)
            _require(_is_count(value, 0) and value < 2**32, key, "must be a 32-bit number")
        _require(self.address % 4 == 0, "address", "must be a multiple of 4")


@dataclass(frozen=True)
class Uart:
    """The serial port of a board: `type` says which peripheral it is, `base` its first register.

    `driver` is the file of embbert_tvm/firmware/src that serves the protocol over it, None where there is none yet.
    Pins are for drivers that ask, `setup` for peripherals that need clocks and pins switched to them; `clock_hz` feeds
    the baud rate where that is not the processor's clock.
    """

    type: str
    base: int
    driver: str | None = None
    tx_pin: int | None = None
    rx_pin: int | None = None
    clock_hz: int | None = None
    setup: tuple[Poke, ...] = ()

    def __post_init__(self) -> None:
        _require(isinstance(self.type, str) and bool(_NAME.fullmatch(self.type)), "type", "must be a plain name")
        _require(
            self.driver is None or (isinstance(self.driver, str) and bool(_C_FILE.fullmatch(self.driver))),
            "driver",
            "must be a .c file",
        )
        _require(_is_count(self.base, 0) and self.base < 2**32, "base", "must be a 32-bit address")
        for key in ("tx_pin", "rx_pin"):
            value = getattr(self, key)
            _require(value is None or _is_count(value, 0), key, "must be the number of a pin")
        _require(self.clock_hz is None or _is_count(self.clock_hz), "clock_hz", "must be a positive whole number")

    @property
    def definitions(self) -> tuple[str, ...]:
        """What the driver's C is compiled with."""
        numbers = (("TX_PIN", self.tx_pin), ("RX_PIN", self.rx_pin), ("CLOCK_HZ", self.clock_hz))
        pokes = ",".join(f"{{{p.address:#x}u,{p.clear:#x}u,{p.set:#x}u}}" for p in self.setup)
        return (
            f"-DPORT_UART_BASE={self.base:#x}u",
            *(f"-DPORT_UART_{name}={number}u" for name, number in numbers if number is not None),
            *([f"-DPORT_UART_SETUP={pokes}"] if pokes else []),
        )


@dataclass(frozen=True)
class Qemu:
    """How QEMU emulates a board; one SysTick tick is `instructions_per_tick` instructions.

    deaf_at_start: its serial port loses what comes before the firmware switches it on, where others keep it.
    """

    program: str
    package: str
    machine: str
    instructions_per_tick: float
    deaf_at_start: bool = False

    def __post_init__(self) -> None:
        for key in ("program", "package", "machine"):
            value = getattr(self, key)
            _require(isinstance(value, str) and bool(_NAME.fullmatch(value)), key, "must be a plain name")
        _require(bool(_QEMU.fullmatch(self.program)), "program", "must be a qemu-system-*")
        rate = self.instructions_per_tick
        _require(
            isinstance(rate, (int, float)) and not isinstance(rate, bool) and rate > 0,
            "instructions_per_tick",
            "must be a positive number",
        )
        _require(isinstance(self.deaf_at_start, bool), "deaf_at_start", "must be true or false")


@dataclass(frozen=True)
class Board:
    """A CPU with memory and a serial port; `qemu` is None where QEMU does not know it.

    `memory` is in the order of preference. `source` names the documents that the figures are from.
    """

    name: str
    description: str
    cpu: str
    clock_hz: int
    memory: tuple[Region, ...]
    stack_bytes: int
    source: str = ""
    uart: Uart | None = None
    qemu: Qemu | None = None

    def __post_init__(self) -> None:
        _require(isinstance(self.name, str) and bool(_NAME.fullmatch(self.name)), "name", "must be a plain name")
        _require(isinstance(self.description, str), "description", "must be a string")
        _require(isinstance(self.cpu, str), "cpu", "must be the name of a CPU")
        _require(_is_count(self.clock_hz), "clock_hz", "must be a positive whole number")
        _require(isinstance(self.source, str), "source", "must be a string")
        names = [region.name for region in self.memory]
        _require(len(set(names)) == len(names), "memory", "two regions have the same name")
        for kind in ("flash", "ram"):
            _require(any(r.kind == kind for r in self.memory), "memory", f"has no {kind} region")
        ordered = sorted(self.memory, key=lambda region: region.origin)
        for low, high in pairwise(ordered):
            _require(low.origin + low.bytes <= high.origin, "memory", f"{low.name} and {high.name} overlap")
        _require(
            _is_count(self.stack_bytes) and self.stack_bytes % 8 == 0,
            "stack_bytes",
            "must be a multiple of 8",
        )

        largest = max(region.bytes for region in self.regions("ram"))
        _require(self.stack_bytes < largest, "stack_bytes", f"is {self.stack_bytes}, the largest RAM has {largest}")

    def region(self, kind: str) -> Region:
        """The first region of a kind, which is where code (flash) and data (ram) go."""
        return self.regions(kind)[0]

    def regions(self, kind: str) -> list[Region]:
        """The regions of a kind, the preferred one first."""
        return [region for region in self.memory if region.kind == kind]


def known_cpus() -> list[str]:
    """Names of the CPUs in targets/cpus, sorted."""
    return _known("cpus")


def known_boards() -> list[str]:
    """Names of the boards in targets/boards, sorted."""
    return _known("boards")


def load_cpu(name: str) -> Cpu:
    """The CPU of that name, or of that path where it ends in .yaml; InputError names what is wrong."""
    path, document = _document("cpus", "CPU", name)
    nested = {"toolchain": Toolchain, "llvm": Llvm}
    cpu: Cpu = _checked(path, lambda: _construct(Cpu, document, nested))
    return cpu


def load_board(name: str) -> Board:
    """The board of that name, or of that path where it ends in .yaml; its CPU must be known too."""
    path, document = _document("boards", "board", name)
    board: Board = _checked(path, lambda: board_of(document))
    return board


def board_of(document: Mapping[str, Any]) -> Board:
    """The board that a mapping as in targets/boards describes; InputError names the key that is wrong."""
    board: Board = _construct(Board, document, {"memory": [Region], "uart": Uart, "qemu": Qemu})
    if board.cpu not in known_cpus():
        raise InputError(f"cpu: unknown {board.cpu!r}, known: {', '.join(known_cpus())}")
    return board


def _known(folder: str) -> list[str]:
    return sorted(path.stem for path in resource("targets", folder).glob("*.yaml"))


def _document(folder: str, kind: str, name: str) -> tuple[Path, Mapping[str, Any]]:
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif name in _known(folder):
        path = resource("targets", folder, f"{name}.yaml")
    else:
        raise InputError(f"unknown {kind} {name!r}: known are {', '.join(_known(folder))}, or give a .yaml file")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: {getattr(error, 'problem', error)}" if mark else type(error).__name__
        raise InputError(f"{path}: not YAML ({where})") from error
    if not isinstance(document, Mapping):
        raise InputError(f"{path}: must be a mapping of keys, as in targets/{folder}")
    return path, document


def _checked(path: Path, construct: Any) -> Any:
    try:
        return construct()
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _construct(cls: Any, mapping: object, nested: Mapping[str, Any] | None = None) -> Any:
    """A dataclass from a mapping: lists become tuples, unknown and missing keys an InputError naming them."""
    if not isinstance(mapping, Mapping):
        raise InputError("must be a mapping of keys")
    known = {field.name: field for field in fields(cls)}
    for key in mapping:
        _require(key in known, str(key), f"unknown key; known are {', '.join(known)}")
    for key, field in known.items():
        _require(key in mapping or field.default is not MISSING, key, "is missing")
    values = {}
    for key, value in mapping.items():
        part = (nested or {}).get(key)
        if isinstance(part, list):
            _require(isinstance(value, list), key, "must be a list")
            values[key] = tuple(_part(part[0], item, f"{key}[{i}]") for i, item in enumerate(value))
        elif part is not None and value is not None:
            values[key] = _part(part, value, key)
        else:
            values[key] = tuple(value) if isinstance(value, list) else value
    for key in nested or {}:
        if values.get(key, MISSING) is None and known[key].default is MISSING:
            raise InputError(f"{key}: must not be empty")
    return cls(**values)


def _part(cls: Any, mapping: object, key: str) -> Any:
    try:
        return _construct(cls, mapping, {"setup": [Poke]} if cls is Uart else None)
    except InputError as error:
        raise InputError(f"{key}: {error}") from error
