"""What this machine has and lacks of what deploying a model needs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from embbert_tvm.device.toolchain import find_tool
from embbert_tvm.errors import InputError
from embbert_tvm.resources import firmware
from embbert_tvm.target import Cpu, known_boards, known_cpus, load_board, load_cpu

_PINNED = re.compile(r"([A-Za-z0-9_.-]+)\s*==\s*([^\s;,]+)")
_TEN = (3, 10)


@dataclass(frozen=True)
class Check:
    """One thing that is looked for; `found` is its version or path, None where it is missing or wrong."""

    name: str
    found: str | None
    needed: bool  # to compile a model and run it; the rest is optional
    purpose: str
    get: str  # what to do to have it

    @property
    def ok(self) -> bool:
        return self.found is not None or not self.needed


def examine() -> list[Check]:
    """Every check, in the order of the way from model to board."""
    return [
        *_python(),
        *_toolchains(),
        *_emulators(),
        *_pages(),
        _distribution("torch", "training", "pip install 'embbert-tvm[train]'", False),
    ]


def _python() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("python", version if sys.version_info >= _TEN else None, True, "everything", "Python 3.10 or newer")
    pins = {match[1]: match[2] for line in _requirements() if (match := _PINNED.match(line))}
    for name, purpose in (("apache-tvm", "compile"), ("apache-tvm-ffi", "compile")):
        yield _pinned(name, purpose, pins.get(name))
    for name, purpose in (
        ("onnx", "compile"),
        ("onnxruntime", "the float reference"),
        ("tokenizers", "text to tokens"),
    ):
        yield _distribution(name, purpose, f"pip install {name}", True)


def _requirements() -> list[str]:
    try:
        return metadata.requires("embbert-tvm") or []
    except metadata.PackageNotFoundError:  # run from its source, not installed
        return []


def _distribution(name: str, purpose: str, get: str, needed: bool) -> Check:
    try:
        return Check(name, metadata.version(name), needed, purpose, get)
    except metadata.PackageNotFoundError:
        return Check(name, None, needed, purpose, get)


def _pinned(name: str, purpose: str, pin: str | None) -> Check:
    """A distribution of exactly one version; with another, what is found says so and does not count."""
    check = _distribution(name, purpose, f"pip install {name}=={pin}" if pin else f"pip install {name}", True)
    if pin is None or check.found in (None, pin):
        return check
    return Check(name, None, True, purpose, f"{check.found} is the wrong version: {check.get}")


def _toolchains() -> Iterator[Check]:
    cpus = list(map(load_cpu, known_cpus()))
    for prefix in dict.fromkeys(cpu.toolchain.prefix for cpu in cpus):
        served = [cpu for cpu in cpus if cpu.toolchain.prefix == prefix]
        install = f"apt-get install {' '.join(dict.fromkeys(p for c in served for p in c.toolchain.packages))}"
        name, names = f"{prefix}gcc", ", ".join(cpu.name for cpu in served)
        needed = not all(cpu.toolchain.optional for cpu in served)
        try:
            version = _version([find_tool(served[0], "gcc"), "-dumpfullversion"])
        except InputError:
            yield Check(name, None, needed, f"C for {names}", install)
            continue
        yield Check(name, version, needed, f"C for {names}", install)
        libraries = {cpu.name: _library(cpu) for cpu in served}
        lacking = [cpu for cpu, path in libraries.items() if path is None]
        found = None if lacking else " ".join(dict.fromkeys(Path(p).name for p in libraries.values() if p))
        yield Check(f"{name}: C library", found, needed, f"linking for {', '.join(lacking) or names}", install)


def _library(cpu: Cpu) -> str | None:
    """The path of the C library that the compiler would link, or of the specs that choose it; the compiler prints one
    in full only if it has it."""
    if cpu.library is not None:
        return str(firmware(cpu.library))
    specs = [flag.partition("=")[2] for flag in cpu.cflags if flag.startswith("--specs=")]
    flags = [flag for flag in cpu.cflags if not flag.startswith("--specs=")]
    path = _version([find_tool(cpu, "gcc"), *flags, f"-print-file-name={(specs or ['libc.a'])[0]}"])
    return path if path and path.startswith("/") else None


def _emulators() -> Iterator[Check]:
    emulated = [(board, board.qemu) for board in map(load_board, known_boards()) if board.qemu]
    for program in sorted({qemu.program for _, qemu in emulated}):
        runs = [(board, qemu) for board, qemu in emulated if qemu.program == program]
        needed = not all(load_cpu(board.cpu).toolchain.optional for board, _ in runs)
        path = shutil.which(program)
        found = _version([path, "--version"]) if path else None
        install = f"apt-get install {runs[0][1].package}"
        yield Check(program, found, needed, f"--on qemu ({', '.join(board.name for board, _ in runs)})", install)


def _pages() -> Iterator[Check]:
    """What puts a package's own C into the page that `report` writes."""
    for program, package in (("clang", "clang"), ("wasm-ld", "lld")):
        path = shutil.which(program)
        found = _version([path, "--version"]) if path else None
        yield Check(program, found, False, "the trial on a page of `report`", f"apt-get install {package}")
    library = Path("/usr/lib/wasm32-wasi/libc.a")
    found = str(library) if library.is_file() else None
    yield Check("wasi-libc", found, False, "the trial on a page of `report`", "apt-get install wasi-libc")


def _version(command: list[str]) -> str | None:
    """The first line that a program prints, of `X version 1.2.3 ...` only 1.2.3; None where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    line = done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else None
    match = re.search(r"version (\S+)", line) if line else None
    return match[1] if match else line
