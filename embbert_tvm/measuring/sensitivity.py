"""What each operator loses in each precision: measured by the search for a plan, kept in the package's plan.json, or
measured here of a package whose plan was given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from embbert_tvm.data.dataset import read_examples
from embbert_tvm.data.tokenizer import load_tokenizer, tokenize
from embbert_tvm.device.package import Package
from embbert_tvm.errors import InputError
from embbert_tvm.heads import ONE_LABEL
from embbert_tvm.options import CompileOptions
from embbert_tvm.target import load_cpu

FILE = "plan.json"
TEXTS = 96  # that single operators are measured on


@dataclass(frozen=True)
class Loss:
    """What an operator loses that alone is in a precision.

    Args:
        error: mean squared difference of the logits over the float logits' own mean square.
        changed: the share of texts whose label changes.
        flash: bytes of constants over those of int8.
    """

    error: float
    changed: float
    flash: int


@dataclass(frozen=True)
class Operator:
    """An operator, the precision that the plan gives it, and its losses by precision, those that were measured."""

    name: str
    kept: str
    losses: Mapping[str, Loss]


@dataclass(frozen=True)
class Sensitivity:
    """The operators in the model's order; texts: how many the chosen plan was measured on, drop: points it loses."""

    precisions: tuple[str, ...]
    operators: tuple[Operator, ...]
    texts: int
    drop: float


def read_sensitivity(folder: Path) -> Sensitivity | None:
    """What was measured of the package in a folder; None of one whose plan was given. InputError for a damaged file."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        return _sensitivity(plan) if plan.get("measured") else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not the plan of a package ({error!r}): compile again") from error


def measure_sensitivity(package: Package, data: Path) -> Sensitivity:
    """Run each operator alone in the precision that the package's plan gives it, all others in float32.

    data: labelled text, for the ranges of activations and, its first TEXTS texts, for what changes. Raises InputError
    for a package without a plan of integers, as of n-grams alone or of a file that was quantized already, and for one
    that does not give one label a text.
    """
    from embbert_tvm.compiler import find_source, front_end
    from embbert_tvm.graph.precision import PRECISIONS, read_plan
    from embbert_tvm.graph.quantize import quantize
    from embbert_tvm.kernels.isa import isa_of
    from embbert_tvm.sensitivity import Texts, Trials, logits, measure

    path = package.path / FILE
    if package.head != ONE_LABEL or package.answers is None or not path.is_file():
        raise InputError(f"{package.path}: --sensitivity measures quantized models of one label a text")
    plan = read_plan(path)
    kept = [plan.precision(name).name for name in plan.operators]
    precisions = tuple(dict.fromkeys(name for name in kept if not PRECISIONS[name].is_float))
    source = replace(find_source(package.reference_model), name=package.model_name, tokenizer=package.tokenizer)
    front = front_end(source, CompileOptions(max_length=package.max_length, calibration=data))
    if front.written or not precisions:
        raise InputError(f"{package.path}: --sensitivity measures what a plan quantizes, and this has none of that")
    examples = [x for x in read_examples(data) if x.label in package.answers][:TEXTS]
    if not examples:
        raise InputError(f"{data}: has no text of the package's labels ({', '.join(package.answers)})")
    tokenizer = load_tokenizer(package.tokenizer, package.vocabulary)
    ids = [package.filled(tokenize(tokenizer, x.text, x.text_pair, package.max_length).ids) for x in examples]
    texts = Texts(front.mod, ids, [package.answers.index(x.label) for x in examples])
    isa = isa_of(load_cpu(package.target).features)
    rows = measure(front.mod, front.statistics, texts, isa, Trials(precisions))
    whole = logits(quantize(front.mod, front.statistics, plan).mod, ids, "measuring the plan")
    measured = {"operators": [asdict(row) for row in rows], "texts": len(ids), "drop": texts.drop(whole)}
    return _sensitivity({"operators": plan.operators, "default": plan.default, "measured": measured})


def _sensitivity(plan: Mapping[str, Any]) -> Sensitivity:
    measured, found = plan["measured"], dict[str, dict[str, Loss]]()
    for row in measured["operators"]:
        loss = Loss(float(row["error"]), float(row["changed"]), int(row["flash"]))
        found.setdefault(str(row["operator"]), {})[str(row["precision"])] = loss
    precisions = tuple(dict.fromkeys(name for losses in found.values() for name in losses))
    kept = {str(name): str(precision) for name, precision in plan["operators"].items()}
    operators = tuple(Operator(name, kept.get(name, str(plan["default"])), found[name]) for name in found)
    return Sensitivity(precisions, operators, int(measured["texts"]), float(measured["drop"]))
