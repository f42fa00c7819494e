"""ONNX as people have it: by exporter, axes and attention."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import kinds
import onnx
import torch
from torch import nn

from embbert_tvm.models import huggingface

EXAMPLE = 11  # tokens


class _Logits(nn.Module):
    """A model that gives its logits alone, of positional inputs."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs):
        found = self.model(**dict(zip(self.names, inputs, strict=True)))
        return found if torch.is_tensor(found) else found.logits


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def example(names: tuple[str, ...], batch: int, length: int = EXAMPLE) -> tuple[torch.Tensor, ...]:
    """Ids, a mask of ones and token types of zeros, as many as the model takes."""
    ids = torch.randint(5, kinds.VOCABULARY, (batch, length))
    return (ids, torch.ones_like(ids), torch.zeros_like(ids))[: len(names)]


def wrapped(kind: str, size: kinds.Size = kinds.TINY) -> nn.Module:
    """The model of a kind as a function of its inputs in order."""
    return _Logits(kinds.model(kind, size), kinds.KINDS[kind].inputs).eval()


def _old(module: nn.Module, names: tuple[str, ...], batch: int, opset: int, axes: dict, out: str, path: Path) -> None:
    torch.onnx.export(
        module, example(names, batch), str(path), dynamo=False, input_names=list(names), output_names=["logits"],
        dynamic_axes={**dict.fromkeys(names, axes), "logits": {0: out}}, opset_version=opset,
    )  # fmt: skip


def _old_dynamic(module: nn.Module, names: tuple[str, ...], path: Path) -> None:
    _old(module, names, 2, 17, {0: "batch", 1: "sequence"}, "batch", path)


def _old_batch1(module: nn.Module, names: tuple[str, ...], path: Path) -> None:
    torch.onnx.export(
        module, example(names, 1), str(path), dynamo=False, input_names=list(names), output_names=["logits"],
        dynamic_axes={name: {1: "sequence"} for name in names}, opset_version=20,
    )  # fmt: skip


def _optimum(module: nn.Module, names: tuple[str, ...], path: Path) -> None:
    """Optimum's own is torch.onnx.export with these names of axes, and for many models this opset."""
    _old(module, names, 2, 14, {0: "batch_size", 1: "sequence_length"}, "batch_size", path)


def _dynamo(module: nn.Module, names: tuple[str, ...], path: Path) -> None:
    batch, length = torch.export.Dim("batch"), torch.export.Dim("sequence", min=5, max=kinds.POSITIONS)
    torch.onnx.export(
        module, example(names, 2), str(path), dynamo=True, input_names=list(names), output_names=["logits"],
        dynamic_shapes=(tuple({0: batch, 1: length} for _ in names),), external_data=False, verbose=False,
    )  # fmt: skip


EXPORTERS = {"old_dynamic": _old_dynamic, "old_batch1": _old_batch1, "dynamo": _dynamo, "optimum": _optimum}


FOLDER = "folder"  # what transformers or sentence-transformers save


def saved(kind: str, folder: Path, size: kinds.Size = kinds.TINY) -> None:
    """Write the folder of a kind, without a tokenizer. Raises ValueError for one that no library saves."""
    model = kinds.model(kind, size)
    encoder = model.bert if kind == "embedding" else model
    if not hasattr(encoder, "save_pretrained"):
        raise ValueError(f"{kind} is a module of one's own, which no folder of transformers holds")
    encoder.save_pretrained(folder)
    if kind == "embedding":
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
        parts = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
        listed = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in parts]
        (folder / "modules.json").write_text(json.dumps(listed))


def of_folder(kind: str, size: kinds.Size = kinds.TINY) -> onnx.ModelProto:
    """The ONNX that is made of a kind's folder. Raises ValueError as `saved`."""
    with tempfile.TemporaryDirectory() as name, _quietly():
        saved(kind, Path(name) / kind, size)
        return onnx.load_from_string(huggingface.export(huggingface.read_hub_folder(Path(name) / kind)))


@cache
def exported(kind: str, exporter: str, size: kinds.Size = kinds.TINY) -> onnx.ModelProto:
    """The ONNX of a kind by an exporter; each is made once a process. Do not change it."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        with _quietly():
            EXPORTERS[exporter](wrapped(kind, size), kinds.KINDS[kind].inputs, path)
        return onnx.load(path)


def made_by(exporter: str, kind: str, size: kinds.Size = kinds.TINY) -> onnx.ModelProto:
    """The ONNX of a kind by one of EXPORTERS, or of its FOLDER. Raises ValueError as `saved`."""
    return of_folder(kind, size) if exporter == FOLDER else exported(kind, exporter, size)
