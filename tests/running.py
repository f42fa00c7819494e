"""Running one kernel both ways: TVM's LLVM build of it, and its C as the host's gcc compiles it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import subprocess
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import tvm
from tvm import IRModule, tirx

from embbert_tvm.codegen import c_files
from embbert_tvm.codegen.c_function import CFunction, c_function
from embbert_tvm.codegen.lower import schedule, to_loops
from embbert_tvm.codegen.plan import solve
from embbert_tvm.codegen.steps import Program

MICRO = resources.files("embbert_tvm.kernels.micro")
STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", f"-I{MICRO}")
# Undefined behaviour ends the program.
CHECKED = ("-fsanitize=undefined", "-fno-sanitize-recover=all")


@functools.cache
def _folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="embbert-kernels-")


def compile_c(sources: Sequence[str], flags: Sequence[str] = ("-O2",), headers: dict[str, str] | None = None) -> Path:
    """A shared library of C texts, which must be clean under STRICT."""
    digest = hashlib.sha256(repr((sources, flags, headers)).encode()).hexdigest()[:16]
    folder = Path(_folder().name) / digest
    library = folder / "library.so"
    if library.exists():
        return library
    folder.mkdir()
    for name, text in (headers or {}).items():
        (folder / name).write_text(text)
    paths = []
    for number, text in enumerate(sources):
        paths.append(folder / f"{number}.c")
        paths[-1].write_text(text)
    command = ["gcc", *STRICT, *flags, "-shared", "-fPIC", *map(str, paths), "-lm", "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return library


class Kernel:
    """A PrimFunc to call with numpy arrays, the outputs last; both ways, which must give the same bits."""

    def __init__(self, func: tirx.PrimFunc, length: str = "L") -> None:
        func = func.with_attr("global_symbol", "main")
        self.c: CFunction = c_function(to_loops(schedule(func), "main"), "kernel")
        self._llvm = tvm.compile(IRModule({"main": func}), target="llvm")["main"]
        program = Program((self.c,), {}, (), (), solve(()), 1, 1, 1)
        self.text = c_files.kernels(program, "test", "t")
        headers = {"t_kernels.h": c_files.kernels_header(program, "test", (), "t")}
        self._function = ctypes.CDLL(str(compile_c([self.text], ("-O1", *CHECKED), headers))).kernel
        self._function.restype = None
        self._length = length

    def __call__(
        self, *inputs: np.ndarray, out: tuple[tuple[int, ...], str], length: int = 0, **more: int
    ) -> np.ndarray:
        """out: shape and type of the output. length: what a symbolic dimension is; more: what others are, by name."""
        tensors = [tvm.runtime.tensor(np.ascontiguousarray(x)) for x in inputs]
        result = tvm.runtime.tensor(np.full(out[0], 77, out[1]))
        self._llvm(*tensors, result)
        expected = result.numpy()
        arrays = [np.ascontiguousarray(x) for x in inputs]
        found = np.full(out[0], 77, out[1])
        spaces = []
        for w in self.c.workspaces:
            size = 1
            for dim in w.shape:
                size *= int(dim) if isinstance(dim, tirx.IntImm) else length
            spaces.append(np.full(max(size, 1), 85, w.dtype))
        scalars = [ctypes.c_int32(more.get(str(name), length)) for name in self.c.scalars]
        self._function(*scalars, *(a.ctypes.data_as(ctypes.c_void_p) for a in (*arrays, found, *spaces)))
        np.testing.assert_array_equal(found.view(np.uint8), expected.view(np.uint8), "the C and the LLVM build differ")
        return found


def multiply_high(a: np.ndarray, m: np.ndarray) -> np.ndarray:
    return (np.asarray(a, np.int64) * np.asarray(m, np.int64) + 2**31) >> 32


def saturate(a: np.ndarray) -> np.ndarray:
    return np.clip(a, -128, 127).astype(np.int8)


def extreme_int8(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """int8 with every fourth value at one end."""
    ends = rng.choice([-128, -127, 127, 0], shape)
    return np.where(rng.random(shape) < 0.25, ends, rng.integers(-128, 128, shape)).astype(np.int8)
