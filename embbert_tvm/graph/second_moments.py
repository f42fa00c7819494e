"""Second moments E[x x^T] of what constant matrices multiply: which errors of a row of weights matter (low_bits.py).

They are kept as what lies on and above their diagonal, in half precision and in parts of the diagonal's roots.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from tvm import IRModule

from embbert_tvm.graph.dataflow import Dataflow, Expr, constant, op_name


def multiplied(mod: IRModule) -> list[str]:
    """The names of the tensors of `main` that a constant matrix multiplies."""
    graph = Dataflow(mod)
    found: dict[str, None] = {}
    for _, value in graph.bindings:
        if op_name(value) == "matmul" and _is_matrix(value.args[1]) and constant(value.args[0]) is None:
            found[value.args[0].name] = None
    return list(found)


def _is_matrix(expr: Expr) -> bool:
    value = constant(expr)
    return value is not None and value.ndim == 2


def pack(moment: np.ndarray) -> dict[str, object]:
    """A second moment (k, k) as JSON has it; `unpack` gives it back, rounded."""
    root = np.sqrt(np.maximum(np.diag(moment), 0.0))
    unit = np.where(root > 0, root, 1.0)
    upper = (moment / np.outer(unit, unit))[np.triu_indices(len(moment), 1)]
    return {"roots": [float(f"{x:.6g}") for x in root], "upper": base64.b64encode(upper.astype("<f2")).decode()}


def unpack(packed: dict[str, Any]) -> np.ndarray:
    """Raises ValueError, KeyError or TypeError for what `pack` has not made."""
    root = np.array([float(x) for x in packed["roots"]])
    upper = np.frombuffer(base64.b64decode(packed["upper"], validate=True), "<f2").astype(np.float64)
    above = np.triu_indices(len(root), 1)
    if len(upper) != len(above[0]) or not np.isfinite(upper).all() or not (np.isfinite(root) & (root >= 0)).all():
        raise ValueError("no second moment")
    moment = np.eye(len(root))
    moment[above] = upper
    whole: np.ndarray = np.outer(root, root) * (moment + moment.T - np.eye(len(root)))
    return whole
