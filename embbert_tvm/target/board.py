"""A board: a CPU with memory, a serial port and what its start-up writes to registers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from embbert_tvm.target.checks import C_FILE, QEMU, is_count, is_word, require, require_name, require_strings

_REGION = re.compile(r"[A-Z][A-Z0-9_]*")
_ALL = 0xFFFFFFFF  # to clear: the register is written without being read, whatever its width


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
        require(
            isinstance(self.name, str) and bool(_REGION.fullmatch(self.name)),
            "name",
            "must be capitals, as in RAM",
        )
        require(self.kind in ("flash", "ram"), "kind", f"is {self.kind!r}, must be flash or ram")
        require(is_count(self.origin, 0) and self.origin < 2**32, "origin", "must be a 32-bit address")
        require(is_count(self.bytes), "bytes", "must be a positive number of bytes")
        require(self.origin + self.bytes <= 2**32, "bytes", "the region ends beyond 32 bits")
        require(is_count(self.wait_states, 0), "wait_states", "must be a whole number of cycles")
        require(is_count(self.line_bytes), "line_bytes", "must be a positive number of bytes")


@dataclass(frozen=True)
class RegisterStep:
    """A register write of a start-up: the value without the bits of `clear`, with those of `set`.

    Where `wait` is not 0 nothing is written: the step is over once the bits of `wait` read as those of `set`.

    Args:
        bytes: width of the access; some registers take no other than their own.
        reads: how often the register is read afterwards, so that what it switched can settle: each read takes a cycle
            at least.
    """

    address: int
    set: int
    clear: int = 0
    wait: int = 0
    bytes: int = 4
    reads: int = 0

    def __post_init__(self) -> None:
        for key in ("address", "set", "clear", "wait", "reads"):
            require(is_word(getattr(self, key)), key, "must be a 32-bit number")
        require(self.bytes in (1, 2, 4), "bytes", "must be 1, 2 or 4")
        require(self.address % self.bytes == 0, "address", f"must be a multiple of {self.bytes}")
        wide = [self.set, self.wait, 0 if self.clear == _ALL else self.clear]
        require(max(wide) < 1 << 8 * self.bytes, "bytes", "the register is too narrow for the bits")
        require(not self.wait or not (self.clear or self.set & ~self.wait), "wait", "must cover the bits of set")


@dataclass(frozen=True)
class Uart:
    """The serial port of a board: `type` says which peripheral it is, `base` its first register.

    Args:
        driver: the file of firmware/src that serves the protocol over it, None where there is none yet.
        tx_pin, rx_pin: for drivers that ask.
        clock_hz: what feeds the baud rate, where that does not follow the processor's clock.
        clock_divider: by how much the processor's clock is divided for it, once `start` has run.
        setup: register steps that give it clocks and pins.
    """

    type: str
    base: int
    driver: str | None = None
    tx_pin: int | None = None
    rx_pin: int | None = None
    clock_hz: int | None = None
    clock_divider: int = 1
    setup: tuple[RegisterStep, ...] = ()

    def __post_init__(self) -> None:
        require_name(self.type, "type")
        require(
            self.driver is None or (isinstance(self.driver, str) and bool(C_FILE.fullmatch(self.driver))),
            "driver",
            "must be a .c file",
        )
        require(is_word(self.base), "base", "must be a 32-bit address")
        for key in ("tx_pin", "rx_pin"):
            value = getattr(self, key)
            require(value is None or is_count(value, 0), key, "must be the number of a pin")
        require(self.clock_hz is None or is_count(self.clock_hz), "clock_hz", "must be a positive whole number")
        require(is_count(self.clock_divider), "clock_divider", "must be a positive whole number")


@dataclass(frozen=True)
class Watchdog:
    """Register steps that start a board's watchdog, and those that tell it that all is well, within `seconds`."""

    seconds: float
    start: tuple[RegisterStep, ...]
    feed: tuple[RegisterStep, ...]

    def __post_init__(self) -> None:
        require(
            isinstance(self.seconds, (int, float)) and not isinstance(self.seconds, bool) and self.seconds > 0,
            "seconds",
            "must be a positive number",
        )
        for key in ("start", "feed"):
            require(bool(getattr(self, key)), key, "must not be empty")


@dataclass(frozen=True)
class Power:
    """What a data sheet says of the supply current while the processor runs from flash, for estimates of energy."""

    milliamperes: float
    at_hz: int
    volts: float
    source: str

    def __post_init__(self) -> None:
        for key in ("milliamperes", "volts"):
            value = getattr(self, key)
            require(isinstance(value, (int, float)) and value > 0, key, "must be a positive number")
        require(is_count(self.at_hz), "at_hz", "must be a positive whole number")
        require(isinstance(self.source, str) and bool(self.source), "source", "must name the document")


@dataclass(frozen=True)
class BoardCaches:
    """What stands between a core and its memories, for estimates of cycles.

    Args:
        code_bytes, code_ways: of the cache of instructions.
        data_bytes, data_ways: of that of data; both 0 where the first serves data in flash too.
        flash_cycles: for which the core waits until a line has come from flash.
        line_bytes: of a line of either.
        ram_cycles: the same of RAM; 0 where RAM is tightly coupled or not cached, and needs no line.
        prefetch: whether the line of code after the one that runs costs nothing.
        source: what the figures follow from.
    """

    code_bytes: int
    code_ways: int
    data_bytes: int
    data_ways: int
    flash_cycles: int
    line_bytes: int = 8
    ram_cycles: int = 0
    prefetch: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        for kind in ("code", "data"):
            size, ways = getattr(self, f"{kind}_bytes"), getattr(self, f"{kind}_ways")
            require(is_count(size, kind == "code") and is_count(ways, bool(size)), f"{kind}_bytes", "must be a cache's")
            sets = size // (ways * self.line_bytes) if size else 1
            fits = 1 <= sets <= 4096 and not sets & (sets - 1) and ways <= 8
            require(fits, f"{kind}_bytes", "must be a power of two of sets, of at most 8 ways")
        require(isinstance(self.prefetch, bool), "prefetch", "must be true or false")
        for key in ("flash_cycles", "ram_cycles"):
            require(is_count(getattr(self, key), 0), key, "must be a whole number of cycles")
        require(isinstance(self.source, str), "source", "must be a string")


@dataclass(frozen=True)
class Qemu:
    """How QEMU emulates a board.

    Args:
        options: what its command line needs beside the machine.
        instructions_per_tick: what one tick of the firmware's counter is worth.
        drops_input_until_enabled: its serial port loses what comes before the firmware switches it on.
    """

    program: str
    package: str
    machine: str
    instructions_per_tick: float
    options: tuple[str, ...] = ()
    drops_input_until_enabled: bool = False

    def __post_init__(self) -> None:
        for key in ("program", "package", "machine"):
            require_name(getattr(self, key), key)
        require(bool(QEMU.fullmatch(self.program)), "program", "must be a qemu-system-*")
        rate = self.instructions_per_tick
        require(
            isinstance(rate, (int, float)) and not isinstance(rate, bool) and rate > 0,
            "instructions_per_tick",
            "must be a positive number",
        )
        require_strings(self.options, "options")
        require(isinstance(self.drops_input_until_enabled, bool), "drops_input_until_enabled", "must be true or false")


@dataclass(frozen=True)
class Board:
    """A CPU with memory and a serial port.

    Args:
        clock_hz: of the processor once `start` has run.
        reset_clock_hz: of the processor before; None where there is nothing to start.
        memory: in the order of preference.
        source: the documents that the figures are from.
        start: register steps from reset to `clock_hz`; where a wait among them does not end, the rest are left out.
        reset: the register step that starts the board anew, where that is not the architecture's own.
        image_block: words that the boot ROM looks for near the start of the image.
        uf2_family: by which a boot loader knows a UF2 file that is for it.
        caches: None where the core waits for nothing but `wait_states`.
        framework: what builds its firmware in the place of this package's own start-up.
        flash: commands that put an image there, the usual one first; {elf}, {hex}, {bin}, {uf2} stand for the files.
        qemu: None where QEMU does not know it.
    """

    name: str
    description: str
    cpu: str
    clock_hz: int
    memory: tuple[Region, ...]
    stack_bytes: int
    source: str = ""
    reset_clock_hz: int | None = None
    uart: Uart | None = None
    start: tuple[RegisterStep, ...] = ()
    watchdog: Watchdog | None = None
    reset: RegisterStep | None = None
    image_block: tuple[int, ...] = ()
    uf2_family: int | None = None
    framework: str | None = None
    flash: tuple[str, ...] = ()
    caches: BoardCaches | None = None
    power: Power | None = None
    qemu: Qemu | None = None

    def __post_init__(self) -> None:
        require_name(self.name, "name")
        require(isinstance(self.description, str), "description", "must be a string")
        require(isinstance(self.cpu, str), "cpu", "must be the name of a CPU")
        require(is_count(self.clock_hz), "clock_hz", "must be a positive whole number")
        require(isinstance(self.source, str), "source", "must be a string")
        require(
            self.reset_clock_hz is None or is_count(self.reset_clock_hz),
            "reset_clock_hz",
            "must be a positive whole number",
        )
        require(not self.start or self.reset_clock_hz is not None, "start", "needs reset_clock_hz, of before it")
        require(all(map(is_word, self.image_block)), "image_block", "must be 32-bit numbers")
        require(self.uf2_family is None or is_word(self.uf2_family), "uf2_family", "must be a 32-bit number")
        if self.framework is not None:
            require_name(self.framework, "framework")
        require_strings(self.flash, "flash")
        names = [region.name for region in self.memory]
        require(len(set(names)) == len(names), "memory", "two regions have the same name")
        for kind in ("flash", "ram"):
            require(any(r.kind == kind for r in self.memory), "memory", f"has no {kind} region")
        ordered = sorted(self.memory, key=lambda region: region.origin)
        for low, high in pairwise(ordered):
            require(low.origin + low.bytes <= high.origin, "memory", f"{low.name} and {high.name} overlap")
        require(
            is_count(self.stack_bytes) and self.stack_bytes % 8 == 0,
            "stack_bytes",
            "must be a multiple of 8",
        )

        largest = max(region.bytes for region in self.regions("ram"))
        require(self.stack_bytes < largest, "stack_bytes", f"is {self.stack_bytes}, the largest RAM has {largest}")

    def region(self, kind: str) -> Region:
        """The first region of a kind, which is where code (flash) and data (ram) go."""
        return self.regions(kind)[0]

    def regions(self, kind: str) -> list[Region]:
        """The regions of a kind, the preferred one first."""
        return [region for region in self.memory if region.kind == kind]
