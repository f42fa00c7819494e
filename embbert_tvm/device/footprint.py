"""What a package costs in an image of its target: bytes of flash and RAM read from the linked ELF, and stack."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from embbert_tvm.device.build import Job, compile_objects, package_sources
from embbert_tvm.device.link_map import contributions
from embbert_tvm.device.package import Package
from embbert_tvm.device.toolchain import call
from embbert_tvm.errors import WorkError
from embbert_tvm.target import Cpu

_ENTRIES = ("init", "run", "classify", "classify_pair", "tokenize", "label", "status_text")
_KEPT = (*_ENTRIES, "blob")  # by the linker
_NODE = re.compile(r'node: \{ title: "([^"]+)" label: "([^"]*)"')
_EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')
_STACK = re.compile(r"\\n(\d+) bytes \(([\w,]+)")
# Values of an array whose size is written: of weights, which other files read, and of a long table.
_VALUES = re.compile(r"(\[\d+\][^;={}]*= )\{[^{}]*\}")
_LONG_TABLE = re.compile(r"(\[\d+\][^;={}]*= )\{[^{}]{1000,}\}")
# Bytes of values that GCC reads in less time than it would take to compile the file with them too, for a firmware.
_FEW_VALUES = 100_000
_FLASH = (".text", ".rodata", ".data", ".ARM.exidx", ".ARM.extab")

# Bytes of stack allowed for a function of the C library with all that it calls: the deepest, expf on a CPU without
# floating point, takes 80. tests/device/test_footprint.py reads the libraries' own code.
LIBRARY_FRAME = 128
# Bytes that a function's assembly takes of the stack, which GCC does not tell (kernels/micro/embbert_dsp_codes.h).
_BY_ASSEMBLY = {"embbert_dsp_codes_rows_64": 308, "embbert_dsp_codes_rows_32": 308}
_INDIRECT = "__indirect_call"  # GCC's name for what is called through a pointer


@dataclass(frozen=True)
class Footprint:
    """Bytes that a package adds to a firmware of its CPU.

    `code` counts instructions and small constants with what they pull from the C library (where the CPU's
    images are freestanding); `weights` the constants of embbert_weights.c; `tokenizer` its code and tables,
    0 without; `static` data and bss outside the arena; `stack` the deepest way of calls from a function of the C API,
    where each of `stack_unknown`, functions of the C library whose frames the compiler does not tell, counts
    LIBRARY_FRAME. `parts` are code and weights by object, as the
    linker's map has them (link_map.py); empty where images are not freestanding.
    """

    code: int
    weights: int
    tokenizer: int
    static: int
    stack: int
    stack_unknown: tuple[str, ...]
    parts: dict[str, int]


def footprint(package: Package, cpu: Cpu) -> Footprint:
    """Compile and link the package alone with a CPU's toolchain and measure it.

    Raises InputError where the toolchain is missing, WorkError for C whose worst stack cannot be known.
    """
    with tempfile.TemporaryDirectory(prefix="embbert-") as name:
        folder = Path(name)
        sources = tuple((name, _without_values(path, folder)) for name, path in package_sources(package))
        includes = (*package.includes, *{path.parent for path in package.sources})
        job = Job(cpu, sources, includes, ("-fcallgraph-info=su",), (), None)
        objects = compile_objects(job, folder)
        images, parts = objects, {}
        if cpu.toolchain.freestanding:
            image = folder / "package.elf"
            keep = [f"-Wl,-u,{package.prefix}_{name}" for name in _KEPT]
            linker_map = folder / "package.map"
            link = [
                *cpu.cflags,
                *cpu.ldflags,
                "-Wl,--gc-sections",
                f"-Wl,-e,{package.prefix}_run",
                f"-Wl,-Map={linker_map}",
                *keep,
            ]
            call(cpu, "gcc", [*link, *objects, *cpu.libraries, "-o", image], package.model_name)
            images, parts = [image], contributions(linker_map.read_text(), _FLASH)
        sizes = _sizes(cpu, [*objects, *images])
        weights = _total((sizes[o] for o in objects if o.stem.endswith("weights")), (".rodata",))
        flash = _total((sizes[image] for image in images), _FLASH)
        tokenizer = parts.get(f"package.{package.prefix}_tokenizer.o", 0)
        if not cpu.toolchain.freestanding:
            tokenizer = _total((sizes[o] for o in objects if o.stem.endswith("tokenizer")), _FLASH)
        static = _total((sizes[image] for image in images), (".data", ".bss"))
        frames, calls = _call_graph(path.with_suffix(".ci").read_text() for path in objects)
    entries = (f"{package.prefix}_{entry}" for entry in _ENTRIES)
    deepest = [_deepest(entry, frames, calls) for entry in entries if entry in frames]
    stack, unknown = max(stack for stack, _ in deepest), set().union(*(names for _, names in deepest))
    return Footprint(flash - weights - tokenizer, weights, tokenizer, static, stack, tuple(sorted(unknown)), parts)


def _without_values(source: Path, folder: Path) -> Path:
    """C whose tables have the same sections and sizes but none of their values, which the compiler need not read.

    The first is 1: of a table of zeros a compiler may know what is read, wherever that is.
    """
    text = source.read_text(encoding="utf-8")
    found = (_VALUES if source.stem.endswith("weights") else _LONG_TABLE).sub(r"\1{1}", text)
    if len(text) - len(found) < _FEW_VALUES:
        return source
    short = folder / source.name
    short.write_text(found, encoding="utf-8")
    return short


def _sizes(cpu: Cpu, files: Sequence[Path]) -> dict[Path, list[tuple[str, int]]]:
    """(name, bytes) of the sections of each file."""
    files = list(dict.fromkeys(files))
    if not files:
        return {}
    parts = call(cpu, "size", ["-A", "-d", *files], "a list of sections").strip().split("\n\n\n")
    found = {}
    for file, part in zip(files, parts, strict=True):
        rows = (line.split() for line in part.splitlines())
        found[file] = [(row[0], int(row[1])) for row in rows if len(row) == 3 and row[1].isdecimal()]
    return found


def _total(files: Iterable[list[tuple[str, int]]], names: tuple[str, ...]) -> int:
    """Bytes of the sections of those names, or `name.something`, in all files."""
    sections = (section for sections in files for section in sections)
    return sum(size for name, size in sections if any(name == n or name.startswith(f"{n}.") for n in names))


def _call_graph(files: Iterable[str]) -> tuple[dict[str, int], dict[str, set[str]]]:
    """Stack bytes by function, and the functions that each calls, from GCC's -fcallgraph-info=su."""
    frames: dict[str, int] = {}
    calls: dict[str, set[str]] = {}
    for text in files:
        for title, label in _NODE.findall(text):
            if stack := _STACK.search(label):
                if stack[2] == "dynamic":
                    raise WorkError(f"{title}: its stack grows with its input, so no figure of the stack can be given")
                frames[title] = int(stack[1]) + _BY_ASSEMBLY.get(_function(title), 0)
        for source, target in _EDGE.findall(text):
            calls.setdefault(source, set()).add(target)
    return frames, calls


def _function(title: str) -> str:
    """The function's name in C, of a title of the call graph: its file comes first, and what GCC made of it last."""
    return title.rsplit(":", 1)[-1].split(".")[0]


def _deepest(entry: str, frames: dict[str, int], calls: dict[str, set[str]]) -> tuple[int, set[str]]:
    """Bytes on the deepest way from `entry`, and the functions on any way whose frames are not told.

    A package has no recursion; a call back up the way is not followed a second time. Raises WorkError for a call
    through a pointer: there is nothing to follow.
    """
    unknown: set[str] = set()

    def depth(function: str, above: frozenset[str]) -> int:
        if function == _INDIRECT:
            raise WorkError(f"{sorted(above)[0]}: calls through a pointer, so no figure of the stack can be given")
        if function not in frames:
            unknown.add(function)
        below = (depth(f, above | {function}) for f in sorted(calls.get(function, ())) if f not in above | {function})
        return frames.get(function, LIBRARY_FRAME) + max(below, default=0)

    return depth(entry, frozenset()), unknown
