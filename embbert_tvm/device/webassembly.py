"""A package's own C as WebAssembly, so that a page answers a text with the same bits as a device."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from embbert_tvm.device.package import Package
from embbert_tvm.device.toolchain import first_error, run_tool
from embbert_tvm.errors import WorkError

INSTALL = "apt-get install clang lld wasi-libc"
_SYSROOT = Path("/usr")
_TARGET = "wasm32-wasi"


def missing() -> str | None:
    """What a trial lacks on this machine, None where it has all."""
    for program in ("clang", "wasm-ld"):
        if shutil.which(program) is None:
            return program
    return None if (_SYSROOT / "include" / _TARGET / "string.h").is_file() else "wasi-libc"


def build(package: Package) -> bytes | None:
    """The package as a module; None without the tools, and for one that takes no text. WorkError where it has no C."""
    if missing() is not None or not package.metadata.get("tokenizer"):
        return None
    glue = (Path(__file__).parent / "webassembly.c.in").read_text(encoding="utf-8")
    glue = glue.replace("@PREFIX@", package.prefix).replace("@UPPER@", package.prefix.upper())
    with TemporaryDirectory(prefix="embbert-") as name:
        source, module = Path(name) / "trial.c", Path(name) / "trial.wasm"
        source.write_text(glue, encoding="utf-8")
        includes = [f"-I{path}" for path in package.includes]
        # No start-up: nothing of the C has a constructor. -ffp-contract=off: a product is rounded before its sum.
        command = [
            "clang", f"--target={_TARGET}", "-O2", "-std=c99", "-ffp-contract=off", "-nostartfiles", "-nodefaultlibs",
            *includes, str(source), *map(str, package.sources),
            "-Wl,--no-entry", "-Wl,--gc-sections", "-Wl,--strip-all", "-lc", "-o", str(module),
        ]  # fmt: skip
        done = run_tool(command, "clang", "WebAssembly")
        if done.returncode:
            raise WorkError(f"clang could not make WebAssembly of {package.path}: {first_error(done)}")
        return module.read_bytes()
