"""What the tests of projects share: a project written, tools run, the label that an example should print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from embbert_tvm.device.classify import classify
from embbert_tvm.device.package import Package, load_vectors
from embbert_tvm.device.project import EXAMPLE, load_template, write_project

PREFIX = "intent"
PROGRAMS = Path(sys.executable).parent  # where pip puts cmake and ninja
SEMVER = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?"
QEMU = (
    "qemu-system-arm", "-M", "mps2-an386", "-display", "none", "-monitor", "none", "-serial", "none",
    "-semihosting-config", "enable=on,target=native", "-kernel",
)  # fmt: skip
HOST = ("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1")


def project(package: Package, name: str, out: Path, **options) -> Path:
    files = write_project(package, load_template(name), out, **options)
    assert files == sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    for path in files:
        assert not re.search(r"@\w+@", path)
        assert not re.search(r"@[a-z_]+@", (out / path).read_text()), path
    assert (out / "README.md").is_file()
    return out


def run(*command: object, cwd: Path | None = None, stdin: str = "") -> str:
    """What a program that succeeds prints, on both of its outputs."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, input=stdin, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def configure(folder: Path, cpu: str) -> None:
    """What a user's first call of CMake does."""
    ninja = f"-DCMAKE_MAKE_PROGRAM={PROGRAMS / 'ninja'}"
    given = ["-G", "Ninja", ninja, "-S", ".", "-B", "build", "--toolchain", f"cmake/{cpu}.cmake"]
    run(PROGRAMS / "cmake", *given, cwd=folder)


def expected_label(package: Package) -> str:
    """What the example should print: of its text, or where the package takes only token ids, of a reference vector."""
    header = next(h for folder in package.includes for h in folder.glob(f"{package.prefix}.h")).read_text()
    if re.search(rf"{package.prefix.upper()}_HAS_TOKENIZER 1\b", header):
        (answer,) = classify(package, [EXAMPLE], "host")
        return answer.label
    vectors = load_vectors(package)
    return package.labels[int(np.argmax(vectors[len(vectors) // 2].logits))]
