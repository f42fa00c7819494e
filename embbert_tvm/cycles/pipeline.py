"""In-order pipelines by rule: what a block takes where it follows itself for ever."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from embbert_tvm.cycles.instruction import Instruction

ROUNDS = 12  # of a block, of which the second half is counted
# Uses of a register: by an operation; by what shifts it or takes it for an address; by one on bits or lanes; by a
# multiplication; by an accumulation that adds to it; by a store of it.
USES = ("plain", "early", "bits", "multiply", "added", "stored")


@dataclass(frozen=True)
class Rules:
    """A core that issues in order. latency: cycles from an instruction's issue to that of one that uses its result, by
    kind (or "" for any other) and use; occupies: cycles that an instruction keeps the next from issuing; pairs: whether
    the second may issue in the same cycle as the first, None where one issues at a time; unit: the unit that an
    instruction holds and for how many cycles, None for one that holds none; branch: cycles that a taken branch adds."""

    name: str
    latency: Mapping[str, Mapping[str, int]]
    occupies: Callable[[Instruction, Instruction | None], int]
    pairs: Callable[[Instruction, Instruction], bool] | None = None
    unit: Callable[[Instruction], tuple[str, int] | None] = lambda _: None
    branch: int = 0


def use(instruction: Instruction, register: str) -> str:
    if register in instruction.early:
        return "early"
    if register in instruction.added:
        return "added"
    if instruction.kind in ("store", "store_many", "vector_store", "vector_store_apart"):
        return "stored"
    if instruction.kind == "bits":
        return "bits"
    return "multiply" if instruction.kind.startswith("multiply") else "plain"


class _Issue:
    """The state of a pipeline after the instructions issued so far."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.ready: dict[str, tuple[int, Mapping[str, int]]] = {}
        self.free: dict[str, int] = {}
        self.cycle = 0  # the first in which the next may issue

    def earliest(self, instruction: Instruction) -> int:
        cycle = self.cycle
        for register in instruction.reads:
            if register in self.ready:
                issued, latency = self.ready[register]
                cycle = max(cycle, issued + latency[use(instruction, register)])
        held = self.rules.unit(instruction)
        return cycle if held is None else max(cycle, self.free.get(held[0], 0))

    def issue(self, instruction: Instruction, cycle: int) -> None:
        latency = self.rules.latency.get(instruction.kind, self.rules.latency[""])
        for register in instruction.writes:
            moved = instruction.moves_base and register == instruction.base
            self.ready[register] = (cycle, self.rules.latency[""] if moved else latency)
        if held := self.rules.unit(instruction):
            self.free[held[0]] = cycle + held[1]


def cycles(rules: Rules, block: Sequence[Instruction]) -> float:
    """Cycles of a block that repeats, each time around."""
    state, half, previous = _Issue(rules), 0, None
    for turn in range(ROUNDS):
        if turn == ROUNDS // 2:
            half = state.cycle
        at = 0
        while at < len(block):
            first = block[at]
            cycle = state.earliest(first)
            state.issue(first, cycle)
            state.cycle = cycle
            at += 1
            second = block[at] if at < len(block) else None
            if (
                second is not None
                and rules.pairs is not None
                and rules.pairs(first, second)
                and not (first.writes & (second.reads | second.writes))
                and state.earliest(second) <= cycle
            ):
                state.issue(second, cycle)
                at += 1
                previous = second
                state.cycle = cycle + max(rules.occupies(first, None), rules.occupies(second, None))
            else:
                state.cycle = cycle + rules.occupies(first, previous)
                previous = first
        if block and block[-1].branch:
            state.cycle += rules.branch
    return (state.cycle - half) / (ROUNDS - ROUNDS // 2)
