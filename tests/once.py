"""What takes long and gives the same each time is made once: `patch` puts this in the place of the product's functions.

An export of one of our models is made once a run of tests (exported.py), all else once a process.
"""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exported
import small

Function = Callable[..., Any]


def registry(make: Function) -> Function:
    """PyTorch's registry of operators for its exporter to ONNX, a third of an export's time."""
    kept = functools.cache(make)

    def once(**options: object) -> Any:
        found = copy.copy(kept(**options))  # an export may add operators
        found.functions = {target: list(functions) for target, functions in found.functions.items()}
        return found

    return once


def export(make: Function) -> Function:
    return exported.once(make, lambda: small.shared("exports", Path.mkdir))


def tokenizer_files(make: Function) -> Function:
    """The C of a tokenizer, by what decides its spec: its tokenizer.json, and whether places are told."""
    kept: dict[tuple[object, ...], dict[str, bytes]] = {}

    @functools.wraps(make)
    def once(spec: Any, *others: object) -> dict[str, bytes]:
        key = (spec.tokenizer.to_str(), spec.offsets, *others)
        if key not in kept:
            kept[key] = make(spec, *others)
        return dict(kept[key])

    return once


def machine(make: Function) -> Function:
    """What LLVM builds of a module, of the last ones."""
    most, kept = 40, dict[tuple[int, str], tuple[Any, Any]]()

    @functools.wraps(make)
    def once(mod: Any, target: Any = "llvm") -> Any:
        from tvm_ffi import structural_equal, structural_hash

        key = structural_hash(mod), str(target)
        known, found = kept.pop(key, (None, None))
        if known is None or not structural_equal(mod, known):
            known, found = mod, make(mod, target)
        kept[key] = known, found
        if len(kept) > most:
            del kept[next(iter(kept))]
        return found

    return once


# Where the function stands, and who else has it by name.
_PATCHES: tuple[tuple[str, str, Callable[[Function], Function], tuple[str, ...]], ...] = (
    ("embbert_tvm.graph.onnx_export", "export_model", export, ()),
    ("embbert_tvm.codegen.c_tokenizer", "files", tokenizer_files, ()),
    (
        "embbert_tvm.graph.llvm_run",
        "llvm_machine",
        machine,
        ("embbert_tvm.graph.calibrate", "embbert_tvm.graph.quantize.text_values", "embbert_tvm.sensitivity"),
    ),
)
_MARK = "_made_once"


def patch() -> None:
    """Patch the modules that are imported by now."""
    for place, name, once, others in _PATCHES:
        module = sys.modules.get(place)
        if module is None:
            continue
        if not hasattr(module, _MARK):
            setattr(module, _MARK, (getattr(module, name), once(getattr(module, name))))
            setattr(module, name, getattr(module, _MARK)[1])
        plain, replaced = getattr(module, _MARK)
        for other in filter(None, map(sys.modules.get, others)):
            if getattr(other, name) is plain:
                setattr(other, name, replaced)
    _patch_exporter()


def _patch_exporter() -> None:
    module = sys.modules.get("torch.onnx._internal.exporter._registration")
    if module is None and "embbert_tvm.graph.onnx_export" in sys.modules:
        from torch.onnx._internal.exporter import _registration as module
    if module is not None and not hasattr(module, _MARK):
        setattr(module, _MARK, True)
        module.ONNXRegistry.from_torchlib = staticmethod(registry(module.ONNXRegistry.from_torchlib))
