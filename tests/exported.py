"""Models exported to ONNX once a run for each of their configurations, and then with other weights in their places.

PyTorch's exporter takes two to five seconds whatever the weights are. tests/graph/test_onnx_export.py compares what is
given here with an export.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from embbert_tvm.data.files import write_atomically

if TYPE_CHECKING:
    from embbert_tvm.models.classifier import TextClassifier

Export = Callable[["TextClassifier"], onnx.ModelProto]


def once(export: Export, folder: Callable[[], Path]) -> Export:
    """`export`, called once for a configuration of EmbBERT: `folder` keeps what it gives."""

    @functools.wraps(export)
    def with_weights(model: TextClassifier) -> onnx.ModelProto:
        model.eval()  # as an export leaves it
        path = folder() / f"{_key(model)}.onnx"
        if path.exists():
            return _with_values(onnx.load(path), _values(model))
        if type(model).__name__ != "EmbBert":  # the others' are exported once in any case
            return export(model)
        apart = _with_weights_apart(model)
        found = export(apart)
        assert _tells_weights(found, apart), "the exporter computes something else of an EmbBERT's weights"
        write_atomically(path, found.SerializeToString())
        return _with_values(found, _values(model))

    return with_weights


def _key(model: TextClassifier) -> str:
    shapes = [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
    parts = [type(model).__name__, repr(model.config), repr(shapes), repr(model.more)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def _with_weights_apart(model: TextClassifier) -> TextClassifier:
    """A copy with random weights: the exporter makes one of those that are the same, as norms are before training."""
    import torch

    apart, generator = copy.deepcopy(model), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in apart.parameters():
            parameter.normal_(0, 0.1, generator=generator)
    return apart


def _tells_weights(found: onnx.ModelProto, model: TextClassifier) -> bool:
    """Whether all that lies in an export is there by the names of `_values`, each once, but numbers of no weights."""
    values, names = _values(model), [initializer.name for initializer in found.graph.initializer]
    again = _with_values(onnx.ModelProto.FromString(found.SerializeToString()), values)
    others = [i for i in found.graph.initializer if i.name not in values and i.data_type == onnx.TensorProto.FLOAT]
    return (
        all(numpy_helper.to_array(initializer).size == 1 for initializer in others)
        and all(len({name, f"{name}.T"} & set(names)) == 1 for name in model.state_dict() if "lambda" not in name)
        and again.SerializeToString(deterministic=True) == found.SerializeToString(deterministic=True)
    )


def _values(model: TextClassifier) -> dict[str, np.ndarray]:
    """Each parameter by its name, transposed too, and what the exporter computes of them: e to the power of each
    product of an attention's lambdas, a number."""
    found = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    found |= {f"{name}.T": value.T for name, value in found.items() if value.ndim == 2}
    for n, name in enumerate([name for name in found if re.search(r"lambda_q\d$", name)]):
        found["exp" if n == 0 else f"exp_{n}"] = np.exp((found[name] * found[name.replace("_q", "_k")]).sum())
    return found


def _with_values(found: onnx.ModelProto, values: dict[str, np.ndarray]) -> onnx.ModelProto:
    for initializer in found.graph.initializer:
        if initializer.name in values:
            initializer.raw_data = values[initializer.name].tobytes()
    return found
