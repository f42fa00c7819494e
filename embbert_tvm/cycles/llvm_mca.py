"""Cycles of blocks by llvm-mca, one of the models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from subprocess import CompletedProcess

from embbert_tvm.cycles import tool
from embbert_tvm.cycles.image import BasicBlock
from embbert_tvm.device.toolchain import run_tool
from embbert_tvm.target import Cpu

NAME = "llvm-mca"
ITERATIONS = 50
# What llvm-mca cannot be given or takes for what it is not (a call, for a hundred cycles) is a NOP to it; predicates
# are free, and what they are of is read without its condition.
_FREE = re.compile(r"(?:it[te]*|vpt?\w*|\.\w+)\b.*")
_AS_NOP = re.compile(r"(?:blx?|le|letp|dls\w*|wls\w*|tb[bh]|svc|udf|bkpt|cps\w*|m[rs][sr])\b.*")
_PREDICATE = re.compile(r"^(v\w+?)[te](?=[. ])")
_CONDITION = re.compile(r"^([a-z]{2,}?)(eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)((?:\.[a-z0-9]+)*) ")


def lines_of(block: BasicBlock) -> tuple[str, ...]:
    """The block as llvm-mca is asked of it."""
    lines, conditional, predicated = [], 0, 0
    for _, text in block:
        if text.startswith("it"):
            conditional = len(text.split()[0]) - 1
        elif text.startswith("vpst"):
            predicated = len(text.split()[0]) - 3
        elif _AS_NOP.fullmatch(text):
            lines.append("nop")
        elif text and not _FREE.fullmatch(text):
            text = _CONDITION.sub(r"\1\3 ", text) if conditional else text
            lines.append(_PREDICATE.sub(r"\1", text) if predicated else text)
            conditional, predicated = max(0, conditional - 1), max(0, predicated - 1)
    return tuple(lines)


@dataclass
class Mca:
    """Cycles of blocks on a CPU, each asked of llvm-mca once. assumed: those that it cannot be asked of."""

    cpu: Cpu
    tool: str
    known: dict[tuple[str, ...], float] = field(default_factory=dict)
    assumed: set[tuple[str, ...]] = field(default_factory=set)

    def cycles(self, blocks: Iterable[BasicBlock]) -> dict[BasicBlock, float]:
        lines = {block: lines_of(block) for block in blocks}
        new = [text for text in dict.fromkeys(lines.values()) if text and text not in self.known]
        if new:
            self._ask(new)
        return {block: self.known[text] if text else 0.0 for block, text in lines.items()}

    def is_assumed(self, block: BasicBlock) -> bool:
        return lines_of(block) in self.assumed

    def is_known(self) -> bool:
        """Whether it schedules the core's instructions: it does not those of an M0+."""
        return self._call(["nop"]).returncode == 0

    def _call(self, lines: list[str]) -> CompletedProcess[str]:
        llvm = self.cpu.llvm
        command = [self.tool, f"-mtriple={llvm.mtriple}", f"-mcpu={llvm.mcpu}", f"-iterations={ITERATIONS}", "-json"]
        text = [".syntax unified", ".thumb", *lines]
        return run_tool(command, "llvm-mca", "an estimate of cycles", "\n".join(text) + "\n")

    def _ask(self, blocks: list[tuple[str, ...]]) -> None:
        lines: list[str] = []
        for number, block in enumerate(blocks):
            lines += [f"# LLVM-MCA-BEGIN {number}", *block, f"# LLVM-MCA-END {number}"]
        done = self._call(lines)
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


def model_of(cpu: Cpu) -> Mca | None:
    """llvm-mca as a model of a CPU; None where it has none of the core, or is asked in another assembly than Arm's.

    Raises InputError where it could be asked and is missing.
    """
    if cpu.arch != "arm":
        return None
    mca = Mca(cpu, tool.find_mca())
    return mca if mca.is_known() else None
