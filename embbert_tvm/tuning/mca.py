"""Cycles by llvm-mca's model of a core: each basic block's, times how often QEMU ran it.

A plugin of QEMU (blocks.c) counts the blocks. Flash that makes the core wait, as a board's file says by wait_states,
makes a block take at least as long as its fetch. An estimate: caches, branches and loads from flash are not modelled.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from embbert_tvm.device.toolchain import call, find_tool
from embbert_tvm.errors import InputError
from embbert_tvm.target import Board, Cpu, load_cpu
from embbert_tvm.tuning.measure import QemuPlace, Reading, Session, find_qemu

ITERATIONS = 50
_SOURCE = Path(__file__).with_name("blocks.c")
_BLOCKS = 2**16  # that an image may have
_INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\t((?:[0-9a-f]{4} ?)+)\s*\t(.*)$")
_SYMBOL = re.compile(r"^([0-9a-f]+) ([0-9a-f]+) [tT] (\S+)$", re.MULTILINE)
_HARNESS = re.compile(
    r"main|next_request|(?:reply|put|get|port|crc32|server|answer|report)_?\w*|\w+_Handler|mem\w+|mismatches|cycles\w*"
)


def find_mca() -> str:
    """llvm-mca 15 or later; InputError where there is none."""
    for path in filter(None, map(shutil.which, ["llvm-mca", *(f"llvm-mca-{v}" for v in range(30, 14, -1))])):
        said = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
        version = re.search(r"LLVM version (\d+)", said)
        if version and int(version[1]) >= 15:
            return path
    raise InputError("llvm-mca 15 or later is not installed: `apt-get install llvm-19`, or another of 15 and up")


@dataclass
class Model:
    """Cycles of blocks of instructions on a CPU, each asked of llvm-mca once. assumed: those that it cannot be asked
    of."""

    cpu: Cpu
    board: Board
    tool: str
    known: dict[tuple[str, ...], float] = field(default_factory=dict)
    assumed: set[tuple[str, ...]] = field(default_factory=set)

    def cycles(self, blocks: dict[tuple[str, ...], int], sizes: dict[tuple[str, ...], int]) -> float:
        """Of blocks with how often each ran; sizes: their bytes."""
        new = [block for block in blocks if block not in self.known]
        if new:
            self._ask(new)
        return sum(count * max(self.known[block], self._fetch(sizes[block])) for block, count in blocks.items())

    def _fetch(self, size: int) -> float:
        flash = self.board.region("flash")
        return size / flash.line_bytes * (1 + flash.wait_states) if flash.wait_states else 0.0

    def _ask(self, blocks: list[tuple[str, ...]]) -> None:
        text = [".syntax unified", ".thumb"]
        for number, block in enumerate(blocks):
            text += [f"# LLVM-MCA-BEGIN {number}", *block, f"# LLVM-MCA-END {number}"]
        llvm = self.cpu.llvm
        command = [self.tool, f"-mtriple={llvm.mtriple}", f"-mcpu={llvm.mcpu}", f"-iterations={ITERATIONS}", "-json"]
        done = subprocess.run(command, input="\n".join(text) + "\n", capture_output=True, text=True)
        try:
            regions = json.loads(done.stdout)["CodeRegions"]
            for region in regions:
                known = float(region["SummaryView"]["TotalCycles"]) / ITERATIONS
                self.known[blocks[int(region["Name"])]] = known
        except (KeyError, TypeError, ValueError):
            # One block that it crashes on or takes for no assembly spoils all; it counts an instruction a cycle.
            if len(blocks) > 1:
                self._ask(blocks[: len(blocks) // 2])
                self._ask(blocks[len(blocks) // 2 :])
                return
        self.assumed.update(block for block in blocks if block not in self.known)
        for block in blocks:
            self.known.setdefault(block, float(len(block)))


@dataclass(frozen=True)
class Code:
    """The instructions of an image by address: their bytes and, as llvm-mca reads it, their text. ranges: (start, end)
    of what a candidate runs."""

    text: dict[int, tuple[int, str]]
    ranges: tuple[tuple[int, int], ...]

    def block(self, first: int, count: int) -> tuple[tuple[str, ...], int]:
        """`count` instructions from an address on, as llvm-mca is asked of them, and their bytes."""
        lines, at, conditional = [], first, 0
        for _ in range(count):
            size, text = self.text.get(at, (0, ""))
            at += size
            if text.startswith("it"):
                conditional = len(text.split()[0]) - 1
            elif _AS_NOP.fullmatch(text):
                lines.append("nop")
            elif text and not _FREE.fullmatch(text):
                lines.append(_CONDITION.sub(r"\1\3 ", text) if conditional else text)
                conditional = max(0, conditional - 1)
        return tuple(lines), at - first


def read_code(cpu: Cpu, image: Path) -> Code:
    """InputError where the toolchain is missing."""
    listing = _output([find_tool(cpu, "objdump"), "-d", image])
    found = {
        int(m[1], 16): (len(m[2].split()) * 2, _plain(m[3]))
        for line in listing.splitlines()
        if (m := _INSTRUCTION.match(line)) is not None
    }
    names = _output([find_tool(cpu, "nm"), "-S", image])
    kept = [(int(s, 16) & ~1, int(n, 16)) for s, n, name in _SYMBOL.findall(names) if not _HARNESS.fullmatch(name)]
    return Code(found, tuple((start, start + size) for start, size in kept if size))


def _output(command: list) -> str:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout


def _plain(text: str) -> str:
    """An instruction as objdump prints it, as llvm-mca reads it; a branch's target is elsewhere. Without the width of
    its encoding: LLVM knows no `ldr.w r0, [r1, #-4]`, and crashes on others."""
    text = re.sub(r"\s*[;@].*", "", text).replace("\t", " ").strip()
    text = re.sub(r"^(\w+)\.[nw]\b", r"\1", text)
    if re.match(r"(?:b(?:l|eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)?|cbn?z) ", text):
        return re.sub(r"[0-9a-f]+ <[^>]*>", "elsewhere", text)
    return re.sub(r"\s*<[^>]*>", "", text)


# What llvm-mca cannot be given or takes for what it is not (a call, for a hundred cycles) is a NOP to it; predicates
# are free, and what they are of is read without its condition.
_FREE = re.compile(r"(?:it[te]*|vpt?\w*|\.\w+)\b.*")
_AS_NOP = re.compile(r"(?:blx?|le|letp|dls\w*|wls\w*|tb[bh]|svc|udf|bkpt|cps\w*|m[rs][sr])\b.*")
_CONDITION = re.compile(r"^([a-z]{2,}?)(eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)((?:\.[a-z0-9]+)*) ")


class McaSession:
    """Trials in QEMU whose blocks are counted and weighed."""

    def __init__(self, session: Session, counts: Path, code: Code, model: Model) -> None:
        """counts: the file that blocks.c writes."""
        self._session, self._counts, self._code, self._model = session, counts, code, model
        self._before: Counter[tuple[int, int]] = Counter()

    def run(self, number: int) -> Reading:
        reading = self._session.run(number)
        if reading.error is not None:
            return reading
        now = self._read()
        counts: Counter[tuple[str, ...]] = Counter()
        sizes = {}
        for (first, count), times in (now - self._before).items():
            block, size = self._code.block(first, count)
            if block:
                counts[block] += times
                sizes[block] = size
        self._before = now
        return replace(reading, cycles=round(self._model.cycles(counts, sizes)))

    def _read(self) -> Counter[tuple[int, int]]:
        """How often the blocks of candidates ran so far, by address and number of instructions."""
        found: Counter[tuple[int, int]] = Counter()
        table = np.fromfile(self._counts, "<u8").reshape(-1, 3)
        for first, count, times in table[: np.flatnonzero(table[:, 1] == 0)[0]].tolist():
            if any(start <= first < end for start, end in self._code.ranges):
                found[first, count] += times
        return found

    def close(self) -> None:
        self._session.close()
        self._counts.unlink(missing_ok=True)


def _plugin(program: str, folder: Path) -> Path:
    """blocks.c for this machine and this QEMU, compiled into the folder where it is not yet."""
    made = folder / "blocks.so"
    if not made.is_file():
        version = re.search(r"version (\d+)", _output([program, "--version"]))
        # What is taken of the interface is the same in all its versions, of which QEMU 9 dropped the first.
        api = 1 if version is not None and int(version[1]) < 9 else 2
        flags = ["-std=c11", "-D_DEFAULT_SOURCE", "-O2", "-shared", "-fPIC"]
        defined = [f"-DQEMU_PLUGIN_VERSION={api}", f"-DBLOCKS={_BLOCKS}"]
        call(load_cpu("host"), "gcc", [*flags, *defined, _SOURCE, "-o", made], _SOURCE.name)
    return made


@dataclass(frozen=True)
class McaPlace:
    """QEMU with a count of what it runs."""

    place: QemuPlace
    cpu: Cpu

    @functools.cached_property
    def model(self) -> Model:
        """Of every image: candidates of a task differ in a few blocks."""
        return Model(self.cpu, self.place.board, find_mca())

    @property
    def name(self) -> str:
        return f"{self.place.name}+mca"

    def open(self, image: Path) -> McaSession:
        program = find_qemu(self.place.board)
        counts = image.with_suffix(".counts")
        options = ("-plugin", f"file={_plugin(program, image.parent)},to={counts}")
        session = replace(self.place, options=options).open(image)
        return McaSession(session, counts, read_code(self.cpu, image), self.model)
