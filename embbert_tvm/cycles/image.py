"""The instructions of an image, by address and by function."""

from __future__ import annotations

import bisect
import functools
import re
from dataclasses import dataclass
from pathlib import Path

from embbert_tvm.cycles.tool import find_mca
from embbert_tvm.device.toolchain import find_tool, run_tool
from embbert_tvm.errors import WorkError
from embbert_tvm.target import Cpu

_INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+((?:[0-9a-f]{4,8} ?)+)\s*\t(.*)$")
_SYMBOL = re.compile(r"^([0-9a-f]+) ([0-9a-f]+) [tT] (\S+)$", re.MULTILINE)
# Of the protocol's server around a package, and of the start.
_SERVER = (
    r"main|next_request|receive\w*|board_\w+|registers_\w+|watchdog_\w+|restart|busy_wait\w*"
    r"|(?:reply|put|get|port|crc32|server|answer|report|painted)_?\w*|\w+_Handler"
)
_HARNESS = re.compile(_SERVER + r"|infer|mem\w+|mismatches|cycles\w*")

BasicBlock = tuple[tuple[int, str], ...]  # the bytes of each instruction and its text


@dataclass(frozen=True)
class Code:
    """The instructions of an image by address: their bytes and their text. functions: (start, end, name) of those that
    are weighed, in order."""

    text: dict[int, tuple[int, str]]
    functions: tuple[tuple[int, int, str], ...]

    def block(self, first: int, count: int) -> BasicBlock:
        """`count` instructions from an address on."""
        found, at = [], first
        for _ in range(count):
            size, text = self.text.get(at, (0, ""))
            found.append((size, text))
            at += size
        return tuple(found)

    def function(self, address: int) -> str | None:
        """The function that an address lies in, None for one that is not weighed."""
        at = bisect.bisect_right(self.starts, address) - 1
        if at < 0 or address >= self.functions[at][1]:
            return None
        return self.functions[at][2]

    @functools.cached_property
    def starts(self) -> list[int]:
        return [start for start, _, _ in self.functions]


def read_code(cpu: Cpu, image: Path, library: bool = False) -> Code:
    """All but the server's functions; library: with what of the C library copies and fills memory, which the server
    uses too. InputError where the toolchain is missing."""
    listing = _output([*_disassembler(cpu), "-d", image])
    found = {
        int(m[1], 16): (len(re.sub(r"\s", "", m[2])) // 2, plain(m[3]))
        for line in listing.splitlines()
        if (m := _INSTRUCTION.match(line)) is not None
    }
    harness = re.compile(_SERVER) if library else _HARNESS
    names = _output([find_tool(cpu, "nm"), "-S", image])
    kept = [(int(s, 16) & ~1, int(n, 16), name) for s, n, name in _SYMBOL.findall(names) if not harness.fullmatch(name)]
    return Code(found, tuple(sorted((start, start + size, name) for start, size, name in kept if size)))


def _disassembler(cpu: Cpu) -> list[str]:
    """GNU objdump 2.40 knows no MVE; what comes with llvm-mca does."""
    if "mve" not in cpu.features:
        return [find_tool(cpu, "objdump")]
    mca = Path(find_mca())
    return [
        str(mca.with_name(mca.name.replace("mca", "objdump"))),
        f"--triple={cpu.llvm.mtriple}",
        f"--mcpu={cpu.llvm.mcpu}",
    ]


def _output(command: list) -> str:
    done = run_tool(list(map(str, command)), Path(command[0]).name, "a listing")
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise WorkError(f"{Path(command[0]).name} could not list {command[-1]}: {said[0]}")
    return done.stdout


def plain(text: str) -> str:
    """An instruction as objdump prints it, as llvm-mca reads it; a branch's target is elsewhere. Without the width of
    its encoding: LLVM knows no `ldr.w r0, [r1, #-4]`, and crashes on others."""
    text = re.sub(r"\s*[;@].*", "", text).replace("\t", " ").strip()
    text = re.sub(r"^(\w+)\.[nw]\b", r"\1", text)
    if re.match(r"(?:b(?:l|eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)?|cbn?z) ", text):
        return re.sub(r"(?:0x)?[0-9a-f]+ <[^>]*>", "elsewhere", text)
    return re.sub(r"\s*<[^>]*>", "", text)
