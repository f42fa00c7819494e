"""ONNX to Relax."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from tvm import IRModule
from tvm.relax.frontend.onnx import from_onnx

from embbert_tvm.data.files import check_is_here
from embbert_tvm.errors import InputError
from embbert_tvm.graph import selective_scan
from embbert_tvm.graph.dataflow import Dataflow, dtype, shape
from embbert_tvm.graph.door import Door, normalize
from embbert_tvm.graph.door.forms import check_finite, plain_constants
from embbert_tvm.graph.door.inputs import describe
from embbert_tvm.graph.door.normalize import HEAD, LEAST, MOST, NORMAL, OUTPUTS
from embbert_tvm.graph.door.outputs import heads_in
from embbert_tvm.graph.names import name_bindings, scopes_of
from embbert_tvm.graph.recurrent import CONVERTERS as RECURRENT
from embbert_tvm.graph.refused import check_types
from embbert_tvm.graph.tvm_workarounds import importer_knows, quiet_importer
from embbert_tvm.models.folder import MAX_LENGTH


def load_onnx(path: Path) -> onnx.ModelProto:
    """The checked ONNX model at `path`, with the data that lie beside it.

    Raises InputError where there is none, it is malformed, or its data are missing or cut.
    """
    check_is_here(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    try:
        model = onnx.load(str(path), load_external_data=False)
        onnx.checker.check_model(str(path))
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a valid ONNX model: {str(error).splitlines()[0]}") from None
    check_types(model, path)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
        sizes = [(t.name, numpy_helper.to_array(t).nbytes) for t in model.graph.initializer]
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise InputError(f"{path}: its external data cannot be read: {str(error).splitlines()[0]}") from None
    del sizes
    return model


def metadata(model: onnx.ModelProto) -> dict[str, str]:
    return {p.key: p.value for p in model.metadata_props}


def open_door(
    model: onnx.ModelProto, longest: int | None = None, separator: int | None = None, padding: int | None = None
) -> Door:
    """The model in the one form that is compiled (graph/door); as it is where it has that already.

    Args:
        model: stays as it is.
        longest: tokens of the longest text that is wished.
        separator: the id after which the second of two texts begins, for a model that has token types.
        padding: the id that fills a text up, for a model of one length that has a mask.

    Raises:
        InputError: for what is no text model, holds NaN, or is computed in a way that is not compiled.
    """
    known = metadata(model)
    graph = model.graph
    is_ours = MAX_LENGTH in known or NORMAL in known
    first = [describe(v) for v in (*graph.input, *graph.output)][:1]
    one_length = (known.get(NORMAL, "").split() or [""])[0]
    if not is_ours or first not in (["ids int64 (1, L)"], [f"ids int64 (1, {one_length})"]):
        return normalize(model, longest, separator, padding)
    check_finite(model)
    least, most, head, scores = (*known.get(NORMAL, f"1 {known.get(MAX_LENGTH, 0)} text").split(), "", "", "")[:4]
    if not (least.isdigit() and most.isdigit() and len(heads_in(head)) == len(graph.output)):
        raise InputError(f"{NORMAL} of the model is {known[NORMAL]!r}, not what embbert-tvm writes: export it again")
    return Door(model, int(least), int(most) or None, head, (), scores or None)


def import_onnx(model: onnx.ModelProto, longest: int | None = None, separator: int | None = None) -> IRModule:
    """A Relax module whose `main` takes ids (1, L) and whose bindings are named after the model's parameters.

    Takes the arguments of `open_door`. Its attributes LEAST, MOST, HEAD and OUTPUTS say what the door found.
    Raises InputError for an operator that the importer does not know, or a model that the door refuses.
    """
    door = open_door(model, longest, separator)
    selective_scan.check(door.model)
    reason = ""
    with quiet_importer(), importer_knows({**selective_scan.CONVERTERS, **RECURRENT}):
        try:
            mod = from_onnx(plain_constants(door.model), keep_params_in_input=False)
        except Exception as error:  # The importer raises whatever its operators raise.
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    if reason:
        raise InputError(f"TVM cannot import this ONNX model: {reason}")
    try:
        graph = Dataflow(mod)
    except ValueError as error:
        raise InputError(f"the model computes with its length in a way that is not compiled: {error}") from None
    params = graph.function.params
    if len(params) != 1 or dtype(params[0]) not in ("int32", "int64") or shape(params[0])[:-1] != [1]:
        raise InputError(
            "the model must have one input, token ids of shape (1, L); this one has "
            + ", ".join(f"{p.name} {dtype(p)} {tuple(shape(p))}" for p in params)
        )
    initializers = {t.name: numpy_helper.to_array(t) for t in (*model.graph.initializer, *door.model.graph.initializer)}
    names = " ".join(output.name for output in door.model.graph.output)
    found = {LEAST: door.least, MOST: door.most or 0, HEAD: door.head, OUTPUTS: names}
    mod["main"] = mod["main"].with_attrs(found)
    return name_bindings(mod, scopes_of(initializers))
