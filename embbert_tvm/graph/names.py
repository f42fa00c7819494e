"""Name a module's bindings after the parameters of the model they came from.

A name says where in the model a value belongs (`blocks_0_query`); it is the key of calibration statistics and stands
in reports and in the C.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter

import numpy as np
from tvm import IRModule
from tvm.ir import Var

from embbert_tvm.graph.dataflow import Dataflow, Rebuilder, callee, constant, keep, variables

_PARAMETER = re.compile(r"\.(weight|bias|gamma|beta)(\.T)?$")


def fingerprint(value: np.ndarray) -> str:
    head = f"{value.dtype}{value.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(value).tobytes()).hexdigest()


def scopes_of(initializers: dict[str, np.ndarray]) -> dict[str, str]:
    """The module path of each initializer (`blocks.0.query` for `blocks.0.query.weight`) by its fingerprint.

    A matrix is listed transposed too, as the importer may turn it. Tensors of equal content have no scope.
    """
    found: dict[str, set[str]] = {}
    for name, value in initializers.items():
        if not _PARAMETER.search(name):
            continue
        for form in (value, value.T) if value.ndim == 2 else (value,):
            found.setdefault(fingerprint(form), set()).add(_PARAMETER.sub("", name))
    return {key: scopes.pop() for key, scopes in found.items() if len(scopes) == 1}


def _common(scopes: list[str]) -> str:
    parts = [s.split(".") for s in scopes if s]
    if not parts:
        return ""
    shared = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return ".".join(shared)


def name_bindings(mod: IRModule, scopes: dict[str, str]) -> IRModule:
    """The module with its bindings renamed. The last value that a scope's parameters make takes the scope's name."""
    graph = Dataflow(mod)
    scope_of: dict[Var, str] = {}
    owner: dict[str, Var] = {}
    for var, value in graph.bindings:
        args = getattr(value, "args", [])
        own = [scopes.get(fingerprint(c), "") for a in args if (c := constant(a)) is not None and c.size > 1]
        if any(own):
            scope_of[var] = _common(own)
            owner[scope_of[var]] = var
        else:
            scope_of[var] = _common([scope_of.get(v, "") for v in variables(value)])
    names: dict[Var, str] = {}
    taken: Counter[str] = Counter()
    for var, value in graph.bindings:
        scope = re.sub(r"[^A-Za-z0-9_]", "_", scope_of[var])
        operator = (callee(value) or "value").split(".")[-1]
        name = scope if owner.get(scope_of[var]) is var else f"{scope}_{operator}".lstrip("_")
        taken[name] += 1
        names[var] = name if taken[name] == 1 else f"{name}_{taken[name]}"
    return Rebuilder(mod, names=names).run(keep)


_OPERATOR = re.compile(r"_(matmul|multiply|add|subtract|take|permute_dims|conv1d|silu|relu|rms_norm|softmax)(_\d+)?$")


def plain(name: str) -> str:
    """A binding's name without the operator at its end: `blocks_0_norm` for `blocks_0_norm_multiply`."""
    return _OPERATOR.sub("", name) or name
