"""A CPU: an instruction set with its compiler, and the closed set of features that choose its kernels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from embbert_tvm.target.checks import C_FILE, FLAG, TOOL_PREFIX, require, require_name, require_strings

HOST = "host"
# What `arch` may be: firmware/link/<arch>.ld is the linker script of each but the host.
ARCHS = ("arm", "riscv", "xtensa", HOST)


@dataclass(frozen=True)
class Feature:
    """What kernels may use of a CPU.

    Args:
        meaning: in a few words, for lists.
        implies: features that no CPU with this one lacks.
        archs: the architectures that can have it.
    """

    meaning: str
    implies: tuple[str, ...] = ()
    archs: tuple[str, ...] = ARCHS


FEATURES = {
    "dsp": Feature("SMLAD: two 16-bit products an instruction", archs=("arm",)),
    "mve": Feature("Helium: vectors of 128 bits", ("dsp",), ("arm",)),
    "dual_issue": Feature("two instructions a cycle, but never LDRD", ("dsp",), ("arm",)),
    "fpu": Feature("single-precision floating point"),
    "fp16": Feature("half-precision floating point", ("fpu",)),
}


def with_implied(features: Iterable[str]) -> tuple[str, ...]:
    """The features and all that they imply, each once, in the order of FEATURES.

    Raises InputError for an unknown one.
    """
    found: set[str] = set()
    waiting = list(features)
    while waiting:
        name = waiting.pop()
        require(name in FEATURES, "features", f"unknown {name!r}, known are {', '.join(FEATURES)}")
        if name not in found:
            found.add(name)
            waiting += FEATURES[name].implies
    return tuple(name for name in FEATURES if name in found)


@dataclass(frozen=True)
class Toolchain:
    """A GCC and its binutils: `prefix` + "gcc", and the Debian packages that bring them.

    Args:
        freestanding: whether an image links without an operating system.
        optional: whether a machine without it is complete; `doctor` then does not ask for it.
    """

    prefix: str
    packages: tuple[str, ...]
    freestanding: bool
    optional: bool = False

    def __post_init__(self) -> None:
        is_prefix = isinstance(self.prefix, str) and bool(TOOL_PREFIX.fullmatch(self.prefix))
        require(is_prefix, "prefix", "must be a prefix")
        require_strings(self.packages, "packages")
        for key in ("freestanding", "optional"):
            require(isinstance(getattr(self, key), bool), key, "must be true or false")


@dataclass(frozen=True)
class Llvm:
    """Options of TVM's llvm target; empty for the machine itself."""

    mtriple: str = ""
    mcpu: str = ""
    mattr: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(isinstance(self.mtriple, str), "mtriple", "must be a string")
        require(isinstance(self.mcpu, str), "mcpu", "must be a string")
        require_strings(self.mattr, "mattr")


@dataclass(frozen=True)
class Cpu:
    """An instruction set with its compiler.

    Args:
        arch: one of ARCHS; names the linker script.
        features: choose the kernels; those of FEATURES, with what they imply.
        firmware: files of firmware/src that start it.
        libraries: what is linked last.
        library: the folder of firmware/ that stands in for a C library that the toolchain lacks.
        emulation_board: where `--on qemu` runs it, None where nothing emulates it.
        cycles_per_instruction: in the mean over a package, caches warm; None where not known.
        pipelines: the rules of cycles/rules.py by which cycles are estimated beside llvm-mca.
    """

    name: str
    description: str
    arch: str
    features: tuple[str, ...]
    toolchain: Toolchain
    cflags: tuple[str, ...]
    optimize: tuple[str, ...]
    ldflags: tuple[str, ...]
    llvm: Llvm
    firmware: tuple[str, ...]
    libraries: tuple[str, ...] = ("-lm",)
    library: str | None = None
    emulation_board: str | None = None
    cycles_per_instruction: float | None = None
    pipelines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_name(self.name, "name")
        require(isinstance(self.description, str), "description", "must be a string")
        require(self.arch in ARCHS, "arch", f"is {self.arch!r}, must be one of {', '.join(ARCHS)}")
        for key in ("features", "cflags", "optimize", "ldflags", "firmware", "libraries", "pipelines"):
            require_strings(getattr(self, key), key)
        for key in ("cflags", "optimize", "ldflags", "libraries"):
            for flag in getattr(self, key):
                what = (
                    f"{flag!r} is not a flag that is known to run, read or write nothing (target/checks.py lists them)"
                )
                require(bool(FLAG.fullmatch(flag)), key, what)
        object.__setattr__(self, "features", with_implied(self.features))
        for name in self.features:
            words = f"{name!r} is of {', '.join(FEATURES[name].archs)}, not of {self.arch}"
            require(self.arch in FEATURES[name].archs, "features", words)
        require(all(C_FILE.fullmatch(f) for f in self.firmware), "firmware", "must name .c files")
        if self.library is not None:
            require_name(self.library, "library")
        rate = self.cycles_per_instruction
        require(
            rate is None or (isinstance(rate, (int, float)) and not isinstance(rate, bool) and rate > 0),
            "cycles_per_instruction",
            "must be a positive number",
        )
        require(
            self.emulation_board is None or isinstance(self.emulation_board, str),
            "emulation_board",
            "must be the name of a board",
        )
