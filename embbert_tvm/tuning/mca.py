"""Cycles by llvm-mca's model of a core: each basic block's, times how often QEMU ran it.

QEMU logs every block that it translates (with the addresses of its instructions) and every block that it runs. Flash
that makes the core wait, as a board's file says by wait_states, makes a block take at least as long as its fetch.
An estimate: caches, branches and loads from flash are not modelled.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from embbert_tvm.device.toolchain import find_tool
from embbert_tvm.errors import InputError
from embbert_tvm.target import Board, Cpu
from embbert_tvm.tuning.measure import LinkSession, QemuPlace, Reading

ITERATIONS = 50
_TRACED = re.compile(r"^Trace \d+: \S+ \[[0-9a-f]+/0*([0-9a-f]+)/", re.MULTILINE)
_ADDRESS = re.compile(r"^0x0*([0-9a-f]+):", re.MULTILINE)
_INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\t((?:[0-9a-f]{4} ?)+)\s*\t(.*)$")
_SYMBOL = re.compile(r"^([0-9a-f]+) ([0-9a-f]+) [tT] (\S+)$", re.MULTILINE)
_FUNCTIONS_OF_HARNESS = re.compile(
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
    """Cycles of blocks of instructions on a CPU, each asked of llvm-mca once."""

    cpu: Cpu
    board: Board
    tool: str
    known: dict[tuple[str, ...], float] = field(default_factory=dict)

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
            # It crashes on some blocks and takes others for no assembly: those count an instruction a cycle.
            if len(blocks) > 1:
                self._ask(blocks[: len(blocks) // 2])
                self._ask(blocks[len(blocks) // 2 :])
                return
        for block in blocks:
            # What has no instruction for the model's scheduler takes one cycle each.
            self.known.setdefault(block, float(len(block)))


@dataclass(frozen=True)
class Code:
    """The instructions of an image by address: their bytes and, as llvm-mca reads it, their text."""

    text: dict[int, tuple[int, str]]
    ranges: str  # for QEMU's -dfilter: of what a candidate runs


def read_code(cpu: Cpu, image: Path) -> Code:
    """InputError where the toolchain is missing."""
    listing = _output([find_tool(cpu, "objdump"), "-d", "--no-show-raw-insn", image])
    raw = _output([find_tool(cpu, "objdump"), "-d", image])
    found = {}
    sizes = {
        int(m[1], 16): len(m[2].split()) * 2 for line in raw.splitlines() if (m := _INSTRUCTION.match(line)) is not None
    }
    for line in listing.splitlines():
        if match := re.match(r"^\s*([0-9a-f]+):\t(.*)$", line):
            found[int(match[1], 16)] = (sizes.get(int(match[1], 16), 4), _plain(match[2]))
    names = _output([find_tool(cpu, "nm"), "-S", image])
    kept = [(s, n) for s, n, name in _SYMBOL.findall(names) if not _FUNCTIONS_OF_HARNESS.fullmatch(name)]
    ranges = ",".join(f"0x{int(s, 16) & ~1:x}+0x{int(n, 16):x}" for s, n in kept if int(n, 16))
    return Code(found, ranges)


def _output(command: list) -> str:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout


def _plain(text: str) -> str:
    """An instruction as objdump prints it, as llvm-mca reads it; a branch's target is elsewhere."""
    text = re.sub(r"\s*[;@].*", "", text).replace("\t", " ").strip()
    if re.match(r"(?:b(?:l|eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)?(?:\.[nw])?|cbn?z) ", text):
        return re.sub(r"[0-9a-f]+ <[^>]*>", "elsewhere", text)
    return re.sub(r"\s*<[^>]*>", "", text)


# What llvm-mca cannot be given: predicated pieces of a block are read without their condition; a loop's end, tables and
# data take a cycle each.
_LEFT_OUT = re.compile(r"(?:it[te]*|le|letp|dls\w*|wls\w*|vpt?\w*|tb[bh]|svc|udf|bkpt|\.\w+|cps\w*|m[rs][sr])\b.*")
_CONDITION = re.compile(r"^([a-z]{2,}?)(eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)((?:\.[a-z0-9]+)*) ")


class McaSession:
    """Trials in QEMU whose blocks are logged and weighed."""

    def __init__(self, session: LinkSession, log: Path, code: Code, model: Model) -> None:
        self._session, self._log, self._code, self._model = session, log, code, model
        self._at = 0
        self._blocks: dict[int, list[int]] = {}  # the addresses of what QEMU translated, by its first

    def run(self, number: int) -> Reading:
        reading = self._session.run(number)
        text = self._new()
        if reading.error is not None:
            return reading
        for piece in text.split("IN: ")[1:]:
            addresses = [int(a, 16) for a in _ADDRESS.findall(piece.split("\n\n")[0])]
            if addresses:
                self._blocks[addresses[0]] = addresses
        counts: Counter[tuple[str, ...]] = Counter()
        sizes = {}
        for first, times in Counter(int(a, 16) for a in _TRACED.findall(text)).items():
            block, size = self._text(first)
            if block:
                counts[block] += times
                sizes[block] = size
        return replace(reading, cycles=round(self._model.cycles(counts, sizes)))

    def _text(self, first: int) -> tuple[tuple[str, ...], int]:
        addresses = self._blocks.get(first, [])
        known = [self._code.text[a] for a in addresses if a in self._code.text]
        lines, conditional = [], 0
        for _, text in known:
            if text.startswith("it"):
                conditional = len(text.split()[0]) - 1
            elif not _LEFT_OUT.fullmatch(text):
                lines.append(_CONDITION.sub(r"\1\3 ", text) if conditional else text)
                conditional = max(0, conditional - 1)
        return tuple(lines), sum(size for size, _ in known)

    def _new(self) -> str:
        """What QEMU has logged since the last trial."""
        if not self._log.is_file():
            return ""
        with self._log.open("rb") as file:
            file.seek(self._at)
            content = file.read()
        self._at += len(content)
        return content.decode("ascii", "replace")

    def close(self) -> None:
        self._session.close()
        self._log.unlink(missing_ok=True)


@dataclass(frozen=True)
class McaPlace:
    """QEMU with a log of what it runs."""

    place: QemuPlace
    cpu: Cpu

    @property
    def name(self) -> str:
        return f"{self.place.name}+mca"

    def open(self, image: Path) -> McaSession:
        model = Model(self.cpu, self.place.board, find_mca())
        code, log = read_code(self.cpu, image), image.with_suffix(".log")
        options = ("-d", "in_asm,exec,nochain", "-D", str(log), "-dfilter", code.ranges)
        return McaSession(replace(self.place, options=options).open(image), log, code, model)
