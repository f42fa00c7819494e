"""What each operator loses in each precision: measured by the search for a plan, kept in the package's plan.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embbert_tvm.errors import InputError

FILE = "plan.json"


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


def _sensitivity(plan: Mapping[str, Any]) -> Sensitivity:
    measured, found = plan["measured"], dict[str, dict[str, Loss]]()
    for row in measured["operators"]:
        loss = Loss(float(row["error"]), float(row["changed"]), int(row["flash"]))
        found.setdefault(str(row["operator"]), {})[str(row["scheme"])] = loss
    precisions = tuple(dict.fromkeys(name for losses in found.values() for name in losses))
    kept = {str(name): str(scheme) for name, scheme in plan["operators"].items()}
    operators = tuple(Operator(name, kept.get(name, str(plan["default"])), found[name]) for name in found)
    return Sensitivity(precisions, operators, int(measured["texts"]), float(measured["drop"]))
