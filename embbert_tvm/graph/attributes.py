"""What passes know of a module, as attributes of it: they travel with it from pass to pass.

A kernel's specification is an attribute of its PrimFunc (kernels/specs.py); what is known of values, constants and
operators by name is kept here, as JSON and tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import tvm
from tvm import IRModule

from embbert_tvm.graph.dataflow import Dataflow, op_name
from embbert_tvm.graph.precision import plan_of_text, plan_text
from embbert_tvm.graph.qdq import QuantizedConstant
from embbert_tvm.graph.quantize.low_bits import Blocks
from embbert_tvm.graph.quantize.quantizer import KernelSelection, Quantized
from embbert_tvm.kernels.specs import spec_of, spec_of_text, spec_text

_PREFIX = "embbert."
WRITTEN = "embbert.written"  # constants that the file itself holds as integers
_NAMES = "embbert.constant_names"
_CHOICES = "embbert.choices"
_ORIGINS = "embbert.origins"
_PLAN = "embbert.plan"
_LOW_BITS = "embbert.low_bits"
_UNFUSED = "embbert.unfused"


def with_written(mod: IRModule, constants: Mapping[str, QuantizedConstant] | None) -> IRModule:
    """The module, noting the integers that its file says its constants are; as it is where the file has none."""
    if constants is None:
        return mod
    found = {
        key: {"steps": _tensor(c.steps), "scale": _tensor(c.scale), "zero": _tensor(c.zero), "axis": c.axis}
        for key, c in constants.items()
    }
    return mod.with_attr(WRITTEN, found)


def written_of(mod: IRModule) -> dict[str, QuantizedConstant] | None:
    """The integers that the file says constants are, by the fingerprint of their float32; None of a float model."""
    if (found := _attribute(mod, WRITTEN)) is None:
        return None
    return {
        str(key): QuantizedConstant(c["steps"].numpy(), c["scale"].numpy(), c["zero"].numpy(), int(c["axis"]))
        for key, c in found.items()
    }


def with_account(quantized: Quantized) -> IRModule:
    """A quantized module that carries what is known of its constants, choices, values and plan."""
    low_bits = {
        key: {
            "format": spec_text(b.format),
            "levels": _tensor(b.levels),
            "multipliers": _tensor(b.multipliers),
            "scale": _tensor(b.scale),
        }
        for key, b in quantized.blocks.items()
    }
    return quantized.mod.with_attrs(
        {
            _NAMES: json.dumps(quantized.constants),
            _CHOICES: json.dumps([asdict(c) for c in quantized.choices]),
            _ORIGINS: json.dumps(quantized.origins),
            _PLAN: plan_text(quantized.plan),
            _LOW_BITS: low_bits,
            _UNFUSED: json.dumps(quantized.unfused),
        }
    )


def account_of(mod: IRModule) -> Quantized:
    """The quantized module with what it carries. Raises ValueError for a module that was not quantized."""
    if _attribute(mod, _PLAN) is None:
        raise ValueError("the module carries no account of its quantization")
    origins = {name: (origin, scale) for name, (origin, scale) in json.loads(_attribute(mod, _ORIGINS)).items()}
    blocks = {
        str(key): Blocks(
            spec_of_text(str(b["format"])), b["levels"].numpy(), b["multipliers"].numpy(), b["scale"].numpy()
        )
        for key, b in _attribute(mod, _LOW_BITS).items()
    }
    return Quantized(
        bare(mod),
        json.loads(_attribute(mod, _NAMES)),
        tuple(KernelSelection(**c) for c in json.loads(_attribute(mod, _CHOICES))),
        specs_of(mod),
        origins,
        plan_of_text(_attribute(mod, _PLAN)),
        blocks,
        tuple(json.loads(_attribute(mod, _UNFUSED))),
    )


def specs_of(mod: IRModule) -> dict[str, object]:
    """What each call's kernel was made from, by the name of the value that it makes; None where it carries nothing."""
    calls = ((var, value) for var, value in Dataflow(mod).bindings)
    return {var.name: spec_of(mod[value.args[0]]) for var, value in calls if op_name(value) == "call_tir"}


def bare(mod: IRModule) -> IRModule:
    """The module without the attributes of this file: its functions alone."""
    for name in [] if mod.attrs is None else list(mod.attrs.keys()):
        if name.startswith(_PREFIX):
            mod = mod.without_attr(name)
    return mod


def _attribute(mod: IRModule, name: str) -> Any:
    return mod.attrs[name] if mod.attrs is not None and name in mod.attrs else None


def _tensor(value: np.ndarray) -> tvm.runtime.Tensor:
    return tvm.runtime.tensor(value)
