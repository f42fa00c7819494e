"""Compile a model and account for every byte of what came out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from embbert_tvm.codegen.program import Program
from embbert_tvm.compiler import Compiled, compile_model, find_source
from embbert_tvm.device.fit import Need, check_fit
from embbert_tvm.device.footprint import Footprint, footprint
from embbert_tvm.device.package import load_package
from embbert_tvm.errors import EmbbertError, InputError
from embbert_tvm.graph.precision import read_plan
from embbert_tvm.graph.quantize.quantizer import ASKED
from embbert_tvm.report.table import table
from embbert_tvm.target import Board, known_boards, load_board, load_cpu


def compile_and_measure(
    model: Path,
    target: str | None,
    output: Path,
    *,
    board: str | None = None,
    plan: Path | None = None,
    dump_ir: Path | None = None,
    **options: Any,
) -> tuple[dict[str, Any], list[str]]:
    """Compile to `output` for a CPU or a board; give the report that `compile --json` prints, and warnings.

    Figures that only the target's toolchain can tell are None where it is missing. Raises WorkError, and leaves no
    package, where it does not fit the board.
    """
    made_for = None if board is None else load_board(board)
    cpu = load_cpu(_cpu_name(target, made_for))
    if plan is not None:
        options |= {"plan": read_plan(plan), "precision": "mixed"}
    start = time.monotonic()
    if dump_ir is not None:
        try:
            dump_ir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{dump_ir}: cannot be written ({error.strerror})") from error

        def dump(phase: str, mod: Any) -> None:
            (dump_ir / f"{phase}.py").write_text(mod.script(show_meta=False) + "\n")

        options["dump"] = dump
    report: dict[str, Any] = {}
    failures: list[str] = []

    def inspect(folder: Path, compiled: Compiled, at_length: Callable[[int], Program]) -> None:
        seconds = time.monotonic() - start
        try:
            measured = footprint(load_package(folder), cpu)
        except EmbbertError as error:
            measured = None
            failures.append(f"code size and stack are not known: {error}")
        report.update(_report(compiled, measured, cpu.name, made_for, options.get("precision", "int8"), seconds))
        if made_for is not None:
            _check_fit(made_for, report, compiled.program, at_length)

    compiled = compile_model(find_source(model), cpu, output, board=made_for, inspect=inspect, **options)
    warnings = [
        f"{c.name} runs in float32: {c.reason}"
        for c in compiled.choices
        if c.precision == "float32" and c.reason != ASKED
    ]
    return report, warnings + failures


def _cpu_name(target: str | None, board: Board | None) -> str:
    if board is not None:
        if target is not None:
            raise InputError(f"--target {target} and --board {board.name}: give one of them; a board says its CPU")
        return board.cpu
    if target in known_boards():
        raise InputError(f"--target {target}: is a board: give it as --board {target}")
    if target is None:
        raise InputError("neither a CPU nor a board is given")
    return target


def _check_fit(board: Board, report: dict[str, Any], program: Program, at_length: Callable[[int], Program]) -> None:
    flash, ram = report["flash_bytes"], report["ram_bytes"]
    code = sum(value or 0 for part, value in flash.items() if part not in ("weights", "total"))
    data = max(board.stack_bytes, ram["stack"] or 0) + (ram["static"] or 0)

    def need(program: Program) -> Need:
        return Need(code + program.weights_bytes, program.arena_bytes, data)

    check_fit(board, need(program), program.max_length, lambda n: need(at_length(n)))


def _report(
    compiled: Compiled, measured: Footprint | None, target: str, board: Board | None, precision: str, seconds: float
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
        "board": None if board is None else board.name,
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
            f"{output}: {report['precision']} for {report['board'] or report['target']}, "
            f"up to {report['max_length']} tokens, in {report['seconds']:.1f} s",
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
