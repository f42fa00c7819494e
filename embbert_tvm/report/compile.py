"""Compile a model and account for every byte of what came out."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from embbert_tvm.compiler import Compiled, compile_model, find_source
from embbert_tvm.device.footprint import Footprint, footprint
from embbert_tvm.device.package import load_package
from embbert_tvm.errors import EmbbertError, InputError
from embbert_tvm.report.table import table
from embbert_tvm.target import load_cpu


def compile_and_measure(
    model: Path, target: str, output: Path, *, dump_ir: Path | None = None, **options: Any
) -> tuple[dict[str, Any], list[str]]:
    """Compile to `output`; give the report that `compile --json` prints, and warnings.

    Figures that only the target's toolchain can tell are None where it is missing.
    """
    cpu = load_cpu(target)
    start = time.monotonic()
    if dump_ir is not None:
        try:
            dump_ir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{dump_ir}: cannot be written ({error.strerror})") from error

        def dump(phase: str, mod: Any) -> None:
            (dump_ir / f"{phase}.py").write_text(mod.script(show_meta=False) + "\n")

        options["dump"] = dump
    compiled = compile_model(find_source(model), cpu, output, **options)
    seconds = time.monotonic() - start
    warnings = [
        f"{c.name} runs in float32: {c.reason}"
        for c in compiled.choices
        if c.precision == "float32" and options.get("precision") != "fp32"
    ]
    try:
        measured = footprint(load_package(output), cpu)
    except EmbbertError as error:
        measured = None
        warnings.append(f"code size and stack are not known: {error}")
    return _report(compiled, measured, cpu.name, options.get("precision", "int8"), seconds), warnings


def _report(
    compiled: Compiled, measured: Footprint | None, target: str, precision: str, seconds: float
) -> dict[str, Any]:
    program = compiled.program
    flash = {
        "code": measured and measured.code,
        "weights": program.weights_bytes,
        "tokenizer": measured and measured.tokenizer,
    }
    ram = {
        "arena": program.arena_bytes,
        "stack": measured and measured.stack,
        "static": measured and measured.static,
    }
    return {
        "target": target,
        "precision": precision,
        "max_length": program.max_length,
        "flash_bytes": {**flash, "total": _total(flash)},
        "ram_bytes": {**ram, "total": _total(ram)},
        "operators": [asdict(c) for c in compiled.choices],
        "seconds": round(seconds, 2),
    }


def _total(parts: dict[str, int | None]) -> int | None:
    return None if None in parts.values() else sum(parts.values())


def text(report: dict[str, Any], output: Path) -> str:
    """The report as lines for a person."""
    kinds: dict[str, int] = {}
    for operator in report["operators"]:
        kinds[operator["precision"]] = kinds.get(operator["precision"], 0) + 1
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items(), key=lambda item: -item[1]))
    return "\n".join(
        [
            f"{output}: {report['precision']} for {report['target']}, up to {report['max_length']} tokens, "
            f"in {report['seconds']:.1f} s",
            f"  flash      {_row(report['flash_bytes'])}",
            f"  RAM        {_row(report['ram_bytes'])}",
            f"  operators  {counted}",
        ]
    )


def operators(report: dict[str, Any]) -> str:
    """Which kernel computes each operator, in what precision, and why, as a table."""
    keys = ("name", "kernel", "precision", "reason")
    return table([("operator", *keys[1:3], "why"), *(tuple(o[key] for key in keys) for o in report["operators"])])


def _row(parts: dict[str, int | None]) -> str:
    shown = [f"{name} {value:,}" for name, value in parts.items() if value is not None and (value or name == "total")]
    return " + ".join(shown[:-1]) + f" = {parts['total']:,} bytes" if parts["total"] is not None else ", ".join(shown)
