"""The specification of a kernel as an attribute of its PrimFunc.

A kernel is made from a frozen dataclass of this package: shapes, epilogue, formats. Passes that follow read it back
from the PrimFunc, so that no table beside the module has to be kept in step with it.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from tvm import tirx

SPEC = "embbert.spec"
_PACKAGE = __package__ or "embbert_tvm.kernels"
_KIND = "class"  # no field of a dataclass can be called so


def with_spec(func: tirx.PrimFunc, spec: object) -> tirx.PrimFunc:
    """`func` with the dataclass that it was made from as an attribute; as it is where there is none.

    Raises TypeError for a specification that holds anything but dataclasses of this package, tuples, numbers and names.
    """
    return func if spec is None else func.with_attr(SPEC, spec_text(spec))


def spec_of(func: tirx.PrimFunc) -> Any:
    """The specification that a PrimFunc carries, None where it carries none."""
    attributes = func.attrs
    return spec_of_text(str(attributes[SPEC])) if attributes is not None and SPEC in attributes else None


def without_spec(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """The same PrimFunc for whoever identifies a kernel by its structure."""
    return func.without_attr(SPEC) if func.attrs is not None and SPEC in func.attrs else func


def spec_text(spec: object) -> str:
    """A specification as JSON: {"class": MODULE.CLASS, and each field}."""
    return json.dumps(_plain(spec))


def spec_of_text(text: str) -> Any:
    """What `spec_text` wrote."""
    return _spec(json.loads(text))


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    kind = type(value)
    if not is_dataclass(value) or not kind.__module__.startswith(f"{_PACKAGE}."):
        raise TypeError(f"a kernel's specification cannot hold {value!r}")
    name = f"{kind.__module__.removeprefix(f'{_PACKAGE}.')}.{kind.__qualname__}"
    return {_KIND: name} | {f.name: _plain(getattr(value, f.name)) for f in fields(value)}


def _spec(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_spec(part) for part in value)
    if not isinstance(value, dict):
        return value
    module, _, name = value.pop(_KIND).rpartition(".")
    kind = getattr(importlib.import_module(f"{_PACKAGE}.{module}"), name)
    return kind(**{key: _spec(part) for key, part in value.items()})
