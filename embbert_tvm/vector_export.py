"""A base model as one that gives a text's vector: a folder that is compiled without torch, its head `vector`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from embbert_tvm.data.dataset import calibration_sample, read_examples
from embbert_tvm.data.files import folder_in_place, write_atomically
from embbert_tvm.data.tokenizer import encode
from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import calibrate, save_calibration, sha256
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.onnx_export import export_model
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.heads import VECTOR
from embbert_tvm.models.classifier import TextClassifier
from embbert_tvm.models.folder import ModelFolder
from embbert_tvm.models.registry import load_classifier
from embbert_tvm.source import FOREIGN


def export_vector(folder: ModelFolder, out: Path, texts: Path) -> int:
    """Write the model folder `out` whose outputs are what the head of a model reads, less their mean over some texts.

    texts: a labelled TSV whose texts give the mean and the statistics of int8; its labels are not read. Gives the
    width of the vector. Raises InputError where `out` is there already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is there already: name another output")
    longest = folder.config.max_length
    sample = calibration_sample(read_examples(texts))
    ids = [encode(folder.tokenizer, x.text, x.text_pair, longest) for x in sample]
    model = with_vector(load_classifier(folder), ids)
    exported = export_model(model)
    with folder_in_place(out) as place:
        write_atomically(place / "model.onnx", exported.SerializeToString(deterministic=True))
        write_atomically(place / "tokenizer.json", folder.tokenizer_path.read_bytes())
        config = {"architecture": FOREIGN, "head": VECTOR, "labels": None, "name": f"{folder.name}-vector"}
        write_atomically(place / "config.json", (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())
        mod = simplify(import_onnx(onnx.load_from_string((place / "model.onnx").read_bytes())))
        save_calibration(calibrate(mod, ids, sha256(place / "model.onnx")), place / "calibration.json")
    return model.classes


def with_vector(model: TextClassifier, ids: Sequence[Sequence[int]]) -> TextClassifier:
    """The model with a linear head that gives what the head read, less its mean over these texts."""
    with torch.no_grad():
        features = torch.cat([model.features(torch.tensor([one])) for one in ids])
        mean: Tensor = features.mean(0)
        head = nn.Linear(len(mean), len(mean))
        head.weight.copy_(torch.eye(len(mean)))
        head.bias.copy_(-mean)
    model.head, model.classes = head, len(mean)
    return model.eval()
