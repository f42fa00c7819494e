"""Activation functions, recognised by their values.

Exporters write one function in many ways (x / 2 * (1 + erf(x / sqrt 2)), x * 0.5 ..., powers or products). What is
computed from one tensor and numbers alone is a function of one real, and its values on a grid say which.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from tvm import IRModule, relax
from tvm.ir import Call, Var

from embbert_tvm.graph.dataflow import Rebuilder, constant, op_name, rewrite

_erf = np.vectorize(math.erf, otypes=[float])
_OPERATORS: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "power": np.power,
    "erf": _erf, "tanh": np.tanh, "negative": np.negative, "exp": np.exp, "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}  # fmt: skip
_GRID = np.concatenate([np.linspace(-6, 6, 49), [-0.013, 0.007]])


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


_FUNCTIONS = (
    (lambda x: x / 2 * (1 + _erf(x / math.sqrt(2))), relax.op.nn.gelu),
    (_gelu_tanh, relax.op.nn.gelu_tanh),
    (lambda x: x / (1 + np.exp(-x)), relax.op.nn.silu),
)
_MOST_STEPS = 16


def _value(expr: relax.Expr, x: Var, graph: Rebuilder, steps: list[int]) -> np.ndarray | None:
    """What `expr` is where `x` takes the values of the grid; None where it reads another tensor."""
    if isinstance(expr, Var) and expr.same_as(x):
        return _GRID
    number = constant(graph.producer(expr))
    if number is not None:
        return number.astype(np.float64).reshape(()) if number.size == 1 else None
    made = graph.producer(expr)
    name = op_name(made)
    steps[0] += 1
    if name not in _OPERATORS or steps[0] > _MOST_STEPS:
        return None
    values = [_value(a, x, graph, steps) for a in made.args]
    return None if any(v is None for v in values) else _OPERATORS[name](*values)


def _inside(expr: relax.Expr, graph: Rebuilder, found: list[Var], depth: int = 0) -> None:
    """The tensors that `expr` is computed from by elementwise operators, those nearest to it first."""
    if depth > 8 or not isinstance(expr, Var) or any(expr.same_as(v) for v in found):
        return
    found.append(expr)
    made = graph.producer(expr)
    if op_name(made) in _OPERATORS:
        for arg in made.args:
            _inside(arg, graph, found, depth + 1)


def fuse_activations(mod: IRModule) -> IRModule:
    def rule(call: Call, graph: Rebuilder) -> relax.Expr | None:
        if op_name(call) != "multiply":
            return None
        inside: list[Var] = []
        for arg in call.args:
            _inside(arg, graph, inside)
        for x in inside:
            with np.errstate(all="ignore"):
                values = [_value(a, x, graph, [0]) for a in call.args]
                if any(v is None for v in values):
                    continue
                found = np.multiply(*values)
            for function, operator in _FUNCTIONS:
                if np.allclose(found, function(_GRID), rtol=1e-5, atol=1e-6):
                    return operator(x)
        return None

    return rewrite(mod, rule)
