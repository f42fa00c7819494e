"""The C of a package at every level of two compilers, with every warning that they have a reason for, and under the
checkers. Each build must give the known answer, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import small

from embbert_tvm.device.package import Package, load_package
from embbert_tvm.target import load_cpu

HERE = Path(__file__).parent
STRICT = (
    "-std=c99", "-pedantic", "-Werror", "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wfloat-conversion",
    "-Wdouble-promotion", "-Wcast-align", "-Wcast-qual", "-Wswitch-default", "-Wshadow", "-Wundef", "-Wvla",
    "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wpointer-arith", "-Wwrite-strings", "-Wredundant-decls",
    "-Wformat=2", "-ffp-contract=off",
)  # fmt: skip
LEVELS = {
    "gcc": (["-O0"], ["-O1"], ["-O2"], ["-O3"], ["-Os"], ["-O2", "-flto"]),
    "clang": (["-O0"], ["-O2"], ["-O3"], ["-Os"]),
}
BUILDS = [pytest.param(c, flags, id=f"{c} {flags[-1]}") for c, levels in LEVELS.items() for flags in levels]


# Debian's is 12; of 13 see requirements/gcc13.txt, which has no header for MVE.
ARM = {
    "gcc 12": "arm-none-eabi-gcc",
    "gcc 13": Path(sys.prefix) / "gcc13" / "gcc_arm_none_eabi" / "toolchain" / "bin" / "arm-none-eabi-gcc",
}
ARM_BUILDS = [
    ("gcc 12", "cortex-m7", "int4"), ("gcc 13", "cortex-m7", "int4"), ("gcc 13", "cortex-m0plus", "int8"),
    ("gcc 12", "cortex-m55", "int8"), ("gcc 12", "cortex-m55", "fp16"),
]  # fmt: skip


@pytest.fixture(scope="module")
def package() -> Package:
    return load_package(small.package("int4", target="cortex-m7"))


def call(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(("compiler", "flags"), BUILDS)
def test_every_level_of_every_compiler_gives_the_known_answer(compiler, flags, package, tmp_path):
    includes = [f"-I{path}" for path in package.includes]
    objects = []
    for source in package.sources:
        objects.append(tmp_path / f"{source.stem}.o")
        call(compiler, *STRICT, *flags, *includes, "-c", source, "-o", objects[-1])
    program = tmp_path / "program"
    call(compiler, "-std=c99", *flags, *includes, HERE / "self_check.c", *objects, "-lm", "-o", program)
    assert call(program) == "done\n"


@pytest.mark.parametrize(("compiler", "cpu", "precision"), ARM_BUILDS)
def test_every_level_for_a_cortex_m_is_without_a_warning(compiler, cpu, precision, tmp_path):
    compiled = load_package(small.package(precision, target=cpu))
    includes = [f"-I{path}" for path in compiled.includes]
    sources = [path for path in compiled.sources if not path.stem.endswith("weights")]
    for flags in LEVELS["gcc"]:
        for source in sources:
            made = tmp_path / f"{source.stem}.o"
            call(ARM[compiler], *STRICT, *load_cpu(cpu).cflags, *flags, *includes, "-c", source, "-o", made)
    assert len(list(tmp_path.iterdir())) == len(sources)


def test_cppcheck_finds_nothing(package):
    """zerodiv: it takes a text for empty, which the entry refuses. ctuuninitvar: it misses a loop's assignment."""
    ignored = ["--suppress=zerodiv", "--suppress=ctuuninitvar"]
    folders = {*package.includes, *(path.parent for path in package.sources)}
    sources = [path for path in package.sources if not path.stem.endswith("weights")]
    flags = ["--error-exitcode=1", "--enable=warning,portability,performance", "--std=c99", "-q"]
    call("cppcheck", *flags, *ignored, *(f"-I{folder}" for folder in folders), *sources)


def test_clang_tidy_finds_nothing(package):
    """Of its groups bugprone and cert, but for parameters that could be swapped and indices that are computed in 32
    bits, which hold all that an arena does."""
    checks = (
        "-*,bugprone-*,cert-*,-bugprone-easily-swappable-parameters,-bugprone-implicit-widening-of-multiplication-result"
        ",-bugprone-narrowing-conversions"
    )
    folders = {*package.includes, *(path.parent for path in package.sources)}
    sources = [path for path in package.sources if not path.stem.endswith("weights")]
    includes = [f"-I{folder}" for folder in folders]
    done = subprocess.run(
        ["clang-tidy", "-quiet", "-warnings-as-errors=*", f"-checks={checks}", *sources, "--", "-std=c99", *includes],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
