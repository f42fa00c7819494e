"""An inference's cycles for people and for programs."""

from __future__ import annotations

from typing import Any

from embbert_tvm.cycles.caches import Fills
from embbert_tvm.cycles.inference import WORST, InferenceCycles
from embbert_tvm.table import table


def document(cpu: str, found: InferenceCycles) -> dict[str, Any]:
    """One length of one CPU."""
    functions = [{"name": f.name, "instructions": f.instructions, "cycles": f.cycles} for f in found.functions]
    fills = {"code": found.fills.code, "flash": found.fills.flash, "ram": found.fills.ram} if found.fills else None
    return {
        "target": cpu,
        "length": found.length,
        "instructions": found.instructions,
        "cycles": found.cycles,
        "assumed_instructions": found.assumed,
        "line_fills": fills,
        "functions": functions,
    }


def text(found: InferenceCycles, most: int) -> str:
    """A table: functions, what they leave, and all."""
    models = sorted(found.cycles, key=lambda name: (name == WORST, name))
    lines = [("function", "instructions", *models)]
    for function in found.functions[:most]:
        cycles = (f"{function.cycles[name]:,.0f}" for name in models)
        lines.append((function.name.removeprefix("embbert_"), f"{function.instructions:,}", *cycles))
    rest = found.functions[most:]
    if rest:
        cycles = (f"{sum(f.cycles[name] for f in rest):,.0f}" for name in models)
        lines.append((f"{len(rest)} others", f"{sum(f.instructions for f in rest):,}", *cycles))
    lines.append(("all", f"{found.instructions:,}", *(f"{found.cycles[name]:,.0f}" for name in models)))
    return table(lines, right=tuple(range(1, len(lines[0]))))


def notes(found: InferenceCycles) -> list[str]:
    said = []
    if found.assumed:
        said.append(f"llvm-mca cannot be asked of {found.assumed:,} instructions: a cycle each")
    if isinstance(found.fills, Fills):
        fills = found.fills
        said.append(f"Lines fetched: {fills.flash:,} of data in flash, {fills.ram:,} in RAM, {fills.code:,} of code")
    return said
