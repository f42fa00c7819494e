"""Compile a model and account for every byte of what came out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from embbert_tvm.codegen.program import Program
from embbert_tvm.compiler import Compiled, Source, compile_model, find_source
from embbert_tvm.data.dataset import read_examples
from embbert_tvm.data.files import write_atomically
from embbert_tvm.data.tokenizer import encode, load_tokenizer
from embbert_tvm.device.fit import Need, check_fit
from embbert_tvm.device.footprint import Footprint, footprint
from embbert_tvm.device.package import load_package
from embbert_tvm.device.toolchain import MissingTool
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.graph.precision import CHOICES, PLANS, Plan, named_plan, read_plan
from embbert_tvm.graph.quantize.quantizer import ASKED
from embbert_tvm.mixed import Chooser, parse_budget
from embbert_tvm.report.table import table
from embbert_tvm.target import Board, Cpu, known_boards, load_board, load_cpu
from embbert_tvm.tuning.logs import TunedSchedules

# How often a plan is chosen anew because its package is larger than the budget.
_ATTEMPTS = 4


def compile_and_measure(
    model: Path,
    target: str | None,
    output: Path,
    *,
    board: str | None = None,
    plan: Path | None = None,
    method: str | None = None,
    rounding: str | None = None,
    budget: str | None = None,
    choices: str | None = None,
    dev: Path | None = None,
    dump_ir: Path | None = None,
    tuning: bool = True,
    **options: Any,
) -> tuple[dict[str, Any], list[str]]:
    """Compile to `output` for a CPU or a board; give the report that `compile --json` prints, and warnings.

    plan: the file of one to follow. method: how activations are calibrated. rounding: of weights of fewer than 8 bits.
    budget: for precision "mixed", with the examples of `dev` to measure on; choices: what it is mixed of.
    tuning: whether to use the logs of schedules/ for the board and its CPU. Figures that only the target's toolchain
    can tell are None where it is missing. Raises WorkError, and leaves no package, where it does not fit the board or
    the budget.
    """
    made_for = None if board is None else load_board(board)
    cpu = load_cpu(_cpu_name(target, made_for))
    if plan is not None:
        options |= {"plan": read_plan(plan), "precision": "mixed"}
    changed = {key: value for key, value in (("method", method), ("rounding", rounding)) if value is not None}
    if changed:
        asked = options.get("plan")
        if asked is None and options.get("precision") != "mixed":
            asked = named_plan(options.get("precision", "int8"))
        if asked is not None:
            options["plan"] = replace(asked, **changed)
    source = find_source(model)
    chooser = None
    if options.get("precision") == "mixed" and plan is None:
        chooser = options["plan"] = _chooser(source, cpu, budget, choices, dev, replace(PLANS["int8"], **changed))
    elif (budget, choices, dev) != (None, None, None):
        raise InputError("--budget, --choices and --dev go with --precision mixed")
    start = time.monotonic()
    if dump_ir is not None:

        def dump(phase: str, mod: Any) -> None:
            write_atomically(dump_ir / f"{phase}.py", (mod.script(show_meta=False) + "\n").encode())

        options["dump"] = dump
    report: dict[str, Any] = {}
    failures: list[str] = []

    def inspect(folder: Path, compiled: Compiled, at_length: Callable[[int], Program]) -> None:
        seconds = time.monotonic() - start
        try:
            measured = footprint(load_package(folder), cpu)
        except MissingTool as error:
            measured = None
            failures.append(f"code size and stack are not known: {error}")
        report.update(_report(compiled, measured, cpu.name, made_for, options.get("precision", "int8"), seconds))
        if chooser is not None and chooser.tighten(report["flash_bytes"]["total"], report["ram_bytes"]["total"]):
            raise _TooLarge
        if made_for is not None:
            _check_fit(made_for, report, compiled.program, at_length)

    tuned = None
    if tuning:
        targets = [*([] if made_for is None else [made_for.name]), cpu.name]
        tuned = TunedSchedules(source.name, targets, options.get("precision", "int8"), [Path("schedules")])
    for attempt in range(_ATTEMPTS):
        failures.clear()
        try:
            compiled = compile_model(source, cpu, output, board=made_for, inspect=inspect, tuned=tuned, **options)
            break
        except _TooLarge:
            if attempt == _ATTEMPTS - 1:
                raise WorkError(f"no plan was found that comes within --budget {budget}: allow more") from None
    report["tuned"] = [] if tuned is None else list(dict.fromkeys(tuned.used))
    failures += [] if tuned is None else dict.fromkeys(tuned.warnings)
    if chooser is not None:
        report["plan"] = {"operators": dict(compiled.plan.operators), "measured": compiled.plan.measured}
    warnings = [
        f"{c.name} runs in float32: {c.reason}"
        for c in compiled.choices
        if c.precision == "float32" and c.reason != ASKED
    ]
    return report, warnings + failures


class _TooLarge(Exception):
    """The package is over the budget."""


def _chooser(
    source: Source, cpu: Cpu, budget: str | None, choices: str | None, dev: Path | None, base: Plan
) -> Chooser:
    if budget is None or dev is None:
        raise InputError("--precision mixed needs --budget, as flash=300k,drop=0.5, and --dev TSV to measure on")
    limits = parse_budget(budget)
    schemes = CHOICES if choices is None else tuple(named_plan(name.strip()).default for name in choices.split(","))
    if base.default not in schemes:
        raise InputError(f"--choices {choices}: {base.default} must be among them")
    if source.tokenizer is None or source.labels is None:
        raise InputError(
            f"{source.name}: --precision mixed needs a classifier's folder, with labels and tokenizer.json"
        )
    tokenizer = load_tokenizer(source.tokenizer)
    examples = read_examples(dev, source.labels)
    labels = [source.labels.index(e.label) for e in examples]

    def ids(max_length: int) -> list[list[int]]:
        return [encode(tokenizer, e.text, e.text_pair, max_length) for e in examples]

    return Chooser(limits, cpu.features, ids, labels, schemes, base)


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
        return Need(code + program.weights_bytes, program.arena_bytes, data, program.weights_bytes)

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
    if report.get("tuned"):
        counted += f"; {len(report['tuned'])} kernels as tuned"
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
