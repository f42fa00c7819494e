"""What blocks take on a CPU: by each of its models, and by the worst of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from embbert_tvm.cycles import instruction, llvm_mca, risc
from embbert_tvm.cycles.image import BasicBlock
from embbert_tvm.cycles.instruction import Instruction
from embbert_tvm.cycles.llvm_mca import Mca
from embbert_tvm.cycles.pipeline import Rules, cycles
from embbert_tvm.cycles.rules import RULES
from embbert_tvm.errors import InputError
from embbert_tvm.target import Board, Cpu

# By `arch` of a CPU's file: its instructions as rules see them, from their text and their bytes.
PARSERS: Mapping[str, Callable[[str, int], Instruction]] = {
    "arm": instruction.parse,
    "riscv": risc.parse,
    "xtensa": risc.parse,
}


def rules_of(cpu: Cpu) -> tuple[Rules, ...]:
    """Those that the CPU's file names; InputError for one that is not known."""
    for name in cpu.pipelines:
        if name not in RULES:
            raise InputError(f"{cpu.name}: pipelines: unknown {name!r}, known: {', '.join(RULES)}")
    return tuple(RULES[name] for name in cpu.pipelines)


@dataclass
class Model:
    """Cycles of basic blocks, each by llvm-mca where it knows the core and by the rules of the CPU's pipelines, none
    asked twice.

    A block counts as if it followed itself. Flash that makes the core wait (`wait_states` of the board) makes it take
    at least its fetch.
    """

    mca: Mca | None
    board: Board
    rules: tuple[Rules, ...] = ()
    arch: str = "arm"
    known: dict[BasicBlock, dict[str, float]] = field(default_factory=dict)

    def each(self, blocks: Iterable[BasicBlock]) -> dict[BasicBlock, dict[str, float]]:
        """Cycles of each block by each model."""
        blocks = list(blocks)
        new = [block for block in dict.fromkeys(blocks) if block not in self.known]
        by_mca = self.mca.cycles(new) if self.mca is not None and new else {}
        parse = PARSERS[self.arch]
        for block in new:
            fetch = self._fetch(sum(size for size, _ in block))
            found = {llvm_mca.NAME: by_mca[block]} if block in by_mca else {}
            instructions = [parse(text, size) for size, text in block if text]
            found |= {rules.name: cycles(rules, instructions) for rules in self.rules}
            self.known[block] = {name: max(figure, fetch) for name, figure in found.items()}
        return {block: self.known[block] for block in blocks}

    def cycles(self, counts: Mapping[BasicBlock, int]) -> float:
        """Cycles of blocks by how often each ran, each by the worst of the models."""
        each = self.each(counts)
        return sum(count * max(each[block].values()) for block, count in counts.items())

    def is_assumed(self, block: BasicBlock) -> bool:
        """Whether llvm-mca could not be asked of a block."""
        return self.mca is not None and self.mca.is_assumed(block)

    def _fetch(self, size: int) -> float:
        flash = self.board.region("flash")
        return size / flash.line_bytes * (1 + flash.wait_states) if flash.wait_states else 0.0


def model_of(cpu: Cpu, board: Board) -> Model:
    """InputError where llvm-mca is missing, and where neither it nor a rule knows the core."""
    model = Model(llvm_mca.model_of(cpu), board, rules_of(cpu), cpu.arch)
    if model.mca is None and not model.rules:
        raise InputError(f"{cpu.name}: no model of its pipeline is known: name one in its file, under pipelines")
    return model
