"""What models take in memory, as a table."""

from __future__ import annotations

from typing import Any

from embbert_tvm.table import table


def text(rows: list[dict[str, Any]]) -> str:
    """The rows of measuring/footprint.py as a table for a person, sizes in bytes."""
    lines = [("model", "parameters", "tokens", "weights", "activations", "fp32 total", "int8 flash", "arena", "total")]
    for found in rows:
        formula, plan = found["formula"], found["planned"]
        figures = [found["parameters"], found["length"], *(formula[k] for k in ("weights", "activations", "total"))]
        figures += [plan[k] for k in ("weights", "arena", "total")] if plan else []
        shown = ["any" if figure is None else f"{figure:,}" for figure in figures]
        lines.append((found["model"], *shown, *[""] * (len(lines[0]) - 1 - len(shown))))
    return table(lines, right=tuple(range(1, len(lines[0]))))
