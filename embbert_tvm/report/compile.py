"""The report of a compilation, for programs and for people."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from embbert_tvm.api import CompileReport, Flash, Ram
from embbert_tvm.report.vocabulary import vocabulary_line
from embbert_tvm.table import table


def document(report: CompileReport) -> dict[str, Any]:
    """What `compile --json` prints. Figures that only the target's toolchain can tell are None where it is missing."""
    found = {
        "target": report.target,
        "board": report.board,
        "precision": report.precision,
        "max_length": report.max_length,
        "flash_bytes": _parts(report.flash),
        "ram_bytes": _parts(report.ram),
        "operators": [asdict(choice) for choice in report.operators],
        "seconds": round(report.seconds, 2),
        "tuned": list(report.tuned),
        "longest_slice": report.longest_slice,
    }
    if report.blob is not None:
        size, layout = report.blob
        found["blob"] = {"bytes": size, "layout": f"{layout:08x}"}
    if report.plan is not None:
        found["plan"] = {"operators": dict(report.plan.operators), "measured": report.plan.measured}
    if report.pruned is not None:
        found["vocabulary"] = asdict(report.pruned)
    return found


def text(report: CompileReport, output: Path) -> str:
    """The report as lines for a person."""
    kinds: dict[str, int] = {}
    for operator in report.operators:
        kinds[operator.precision] = kinds.get(operator.precision, 0) + 1
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items(), key=lambda item: -item[1]))
    if report.tuned:
        counted += f"; {len(report.tuned)} kernels as tuned"
    lines = [] if report.pruned is None else [f"  vocabulary {vocabulary_line(report.pruned)}"]
    if report.blob is not None:
        size, layout = report.blob
        lines.append(f"  blob       weights.bin {size:,} bytes, for firmware of layout {layout:08x}")
    return "\n".join(
        [
            f"{output}: {report.precision} for {report.board or report.target}, "
            f"up to {report.max_length} tokens, in {report.seconds:.1f} s",
            f"  flash      {_row(report.flash)}",
            f"  RAM        {_row(report.ram)}",
            f"  operators  {counted}",
            f"  slices     {report.longest_slice:.2%} of an inference at the longest, by multiplications",
            *lines,
        ]
    )


def operators(report: CompileReport) -> str:
    """Which kernel computes each operator, in what precision, and why, as a table."""
    rows = [(o.name, o.kernel, o.precision, o.reason) for o in report.operators]
    return table([("operator", "kernel", "precision", "why"), *rows])


def _parts(memory: Flash | Ram) -> dict[str, int | None]:
    return asdict(memory) | {"total": memory.total}


def _row(memory: Flash | Ram) -> str:
    parts = _parts(memory)
    shown = [f"{name} {value:,}" for name, value in parts.items() if value is not None and (value or name == "total")]
    return " + ".join(shown[:-1]) + f" = {parts['total']:,} bytes" if parts["total"] is not None else ", ".join(shown)
