"""PyTorch -> ONNX with a symbolic length, checked in onnxruntime. The one file of graph/ that needs torch."""

from __future__ import annotations

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from embbert_tvm.data.files import write_atomically
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.graph import selective_scan
from embbert_tvm.graph.door.normalize import NORMAL
from embbert_tvm.graph.door.outputs import joined_heads
from embbert_tvm.models.config import ids_per_token
from embbert_tvm.models.folder import MAX_LENGTH, WEIGHTS_SHA256, ModelFolder
from embbert_tvm.models.reference import Reference

if TYPE_CHECKING:
    from embbert_tvm.models.classifier import TextClassifier

LENGTHS = (1, 7, 64, 256)  # the lengths at which an export is compared with PyTorch
TOLERANCE = 1e-4  # of the largest logit
_OPSET = 18
_IR_VERSION = 10


def fresh_onnx(folder: ModelFolder) -> Path:
    """model.onnx of these weights: the one that lies there, or a new export where it is stale or missing.

    Raises InputError where a new export is needed and torch is not installed.
    """
    if folder.onnx_is_stale():
        if find_spec("torch") is None:
            raise InputError(
                f"{folder.onnx}: missing, or exported from other weights than {folder.weights.name} holds: "
                "run `embbert-tvm export` where embbert-tvm[train] is installed"
            )
        export_folder(folder)
    return folder.onnx


def export_folder(folder: ModelFolder) -> dict[int, float]:
    """Write model.onnx of the folder; gives its relative difference to PyTorch at each length checked.

    Raises WorkError, and leaves what was there, where onnxruntime and PyTorch disagree.
    """
    from embbert_tvm.models.registry import load_classifier

    model = load_classifier(folder)
    exported = export_model(model)
    onnx.helper.set_model_props(exported, {WEIGHTS_SHA256: folder.weights_sha256(), **_limits(model)})
    content = exported.SerializeToString(deterministic=True)
    differences = _compare(model, content, f"{folder.onnx}")
    write_atomically(folder.onnx, content)
    return differences


def _limits(model: TextClassifier) -> dict[str, str]:
    """What a model's ONNX says of its lengths and outputs."""
    longest, least = model.config.max_length, ids_per_token(model.config)
    found = {MAX_LENGTH: str(longest)}
    if model.more or least > 1:
        found[NORMAL] = f"{least} {longest} {joined_heads([False, *(head.of_tokens for head in model.more)])}"
    return found


def export_model(model: TextClassifier) -> onnx.ModelProto:
    """The ONNX of a model, the same bytes each time: `ids` int64 (1, L) to `logits` float32 (1, classes).

    A further head's output is called by its name: (1, classes), or (1, L, classes) of tokens.
    """
    import torch

    length = torch.export.Dim("L", min=1, max=model.config.max_length)
    example = torch.full((1, min(40, model.config.max_length)), 5, dtype=torch.int64)
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)  # it warns that torchvision is not there
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model.eval(),
                (example,),
                input_names=["ids"],
                output_names=["logits", *(head.name for head in model.more)],
                dynamo=True,
                dynamic_shapes=({1: length},),
                opset_version=_OPSET,
                verbose=False,
            )
    finally:
        exporter_log.setLevel(level)
    assert program is not None
    return _clean(program.model_proto, model)


def _clean(exported: onnx.ModelProto, model: TextClassifier) -> onnx.ModelProto:
    """Drop the exporter's stack traces (paths of this machine) and give folded weights their names back."""
    graph = exported.graph
    exported.ir_version = _IR_VERSION
    exported.producer_name, exported.producer_version, exported.doc_string = "embbert-tvm", "", ""
    graph.name, graph.doc_string = "embbert", ""
    del exported.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    for item in [*graph.node, *graph.input, *graph.output, *graph.initializer]:
        del item.metadata_props[:]
        item.doc_string = ""
    selective_scan.declare(exported)
    onnx.helper.set_model_props(exported, _limits(model))
    _rename(graph, {x.name: name for x in graph.initializer if (name := _weight_name(x, model))})
    onnx.checker.check_model(exported, full_check=True)
    return exported


def _weight_name(initializer: onnx.TensorProto, model: TextClassifier) -> str | None:
    """The parameter that an initializer of the exporter's own name holds transposed, or None."""
    if initializer.name in model.state_dict() or len(initializer.dims) != 2:
        return None
    value = numpy_helper.to_array(initializer)
    for name, parameter in model.state_dict().items():
        if tuple(parameter.shape) == value.shape[::-1] and np.array_equal(parameter.numpy().T, value):
            return f"{name}.T"
    return None


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for initializer in graph.initializer:
        initializer.name = names.get(initializer.name, initializer.name)
    for node in graph.node:
        node.input[:] = [names.get(x, x) for x in node.input]


def _compare(model: TextClassifier, content: bytes, where: str) -> dict[int, float]:
    """The difference to PyTorch at each length, relative to the largest logit; WorkError past TOLERANCE."""
    import torch

    reference = Reference(content)
    generator = torch.Generator().manual_seed(0)
    differences = {}
    longest, each = model.config.max_length, ids_per_token(model.config)
    for length in sorted({n * each for n in LENGTHS if n * each < longest} | {longest}):
        ids = torch.randint(5, model.config.vocabulary_size, (1, length), generator=generator)
        if length > 2:
            ids[0, length // 2] = 4  # a [SEP]: both segments
        with torch.no_grad():
            expected = np.concatenate([x.numpy().ravel() for x in model.answers(model.read_by_heads(ids))])
        found = reference.flat(ids[0].tolist())
        difference = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-6))
        if not difference <= TOLERANCE:
            raise WorkError(
                f"{where}: onnxruntime and PyTorch differ at length {length} "
                f"by {difference:.1e} of the largest logit: not written"
            )
        differences[length] = difference
    return differences
