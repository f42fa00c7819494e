"""ONNX to Relax."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from tvm import IRModule
from tvm.relax.frontend.onnx import from_onnx

from embbert_tvm.data.files import check_is_here
from embbert_tvm.errors import InputError
from embbert_tvm.graph import selective_scan
from embbert_tvm.graph.dataflow import Dataflow, dtype, shape
from embbert_tvm.graph.names import name_bindings, scopes_of
from embbert_tvm.graph.refused import check_types

_NUMBERS = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}


def load_onnx(path: Path) -> onnx.ModelProto:
    """The checked ONNX model at `path`. Raises InputError where there is none, or it is malformed."""
    check_is_here(path)
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (DecodeError, onnx.checker.ValidationError, OSError) as error:
        raise InputError(f"{path} is not a valid ONNX model: {str(error).splitlines()[0]}") from None
    check_types(model, path)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of what the importer prints where it fails, on stdout from Python and on stderr from C++."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _plain_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every Constant's value a tensor, the one form that the importer reads."""
    if not any(n.op_type == "Constant" and n.attribute[0].name != "value" for n in model.graph.node):
        return model
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    for node in plain.graph.node:
        if node.op_type == "Constant" and (kind := _NUMBERS.get(node.attribute[0].name)):
            value = onnx.helper.get_attribute_value(node.attribute[0])
            tensor = numpy_helper.from_array(np.array(value, kind))
            node.attribute[0].CopyFrom(onnx.helper.make_attribute("value", tensor))
    return plain


def metadata(model: onnx.ModelProto) -> dict[str, str]:
    return {p.key: p.value for p in model.metadata_props}


def import_onnx(model: onnx.ModelProto) -> IRModule:
    """A Relax module whose `main` takes ids (1, L) and whose bindings are named after the model's parameters.

    Raises InputError for an operator that the importer does not know, or a graph that is no text classifier.
    """
    selective_scan.check(model)
    reason = ""
    with _quiet(), selective_scan.imported():
        try:
            mod = from_onnx(_plain_constants(model), keep_params_in_input=False)
        except Exception as error:  # The importer raises whatever its operators raise.
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    if reason:
        raise InputError(f"TVM cannot import this ONNX model: {reason}")
    try:
        graph = Dataflow(mod)
    except ValueError as error:
        raise InputError(f"this ONNX model has control flow: {error}") from None
    params = graph.function.params
    if len(params) != 1 or dtype(params[0]) not in ("int32", "int64") or shape(params[0])[:-1] != [1]:
        raise InputError(
            "the model must have one input, token ids of shape (1, L); this one has "
            + ", ".join(f"{p.name} {dtype(p)} {tuple(shape(p))}" for p in params)
        )
    if isinstance(shape(params[0])[1], int):
        raise InputError(
            f"the model takes exactly {shape(params[0])[1]} tokens: export it with the length as a dynamic axis"
        )
    initializers = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return name_bindings(mod, scopes_of(initializers))
