"""A base model as one that gives a text's vector: a folder that is compiled without torch, its head `vector`."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from embbert_tvm.data.dataset import calibration_sample, read_examples
from embbert_tvm.data.files import folder_in_place, write_atomically
from embbert_tvm.data.tokenizer import encode
from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import calibrate, save_calibration, sha256
from embbert_tvm.graph.import_onnx import import_onnx
from embbert_tvm.graph.onnx_export import export_model
from embbert_tvm.graph.pipeline import simplify
from embbert_tvm.heads import VECTOR
from embbert_tvm.models.classifier import TextClassifier, mean_row
from embbert_tvm.models.folder import WIDE, ModelFolder
from embbert_tvm.models.ngrams import sketch
from embbert_tvm.models.registry import load_classifier
from embbert_tvm.source import FOREIGN
from embbert_tvm.training.whitening import features_of, main_directions

_MOST_TEXTS = 4000  # that the directions are found from
_MOST_SKETCHED = 1024


def export_vector(folder: ModelFolder, out: Path, texts: Path, sketched: int | None = None) -> int:
    """Write the model folder `out` whose outputs are a text's vector.

    Its last numbers are the mean of the text's rows in their main directions over some texts, of like spreads, together
    about of length 1. The first are a sketch of the text's hashed n-grams (`models/ngrams.py`), as long: two texts are
    near where they mean the same to the encoder or share words.

    Args:
        texts: a labelled TSV whose texts give the directions and the statistics of int8; its labels are not read.
        sketched: how many numbers are the sketch; 5/4 of the model's hidden size where not given. With a sketch the
            main directions are 5/8 of it, without all of it.

    Gives the width of the vector. Raises InputError where `out` is there already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is there already: name another output")
    width, longest = folder.config.hidden_size, folder.config.max_length
    sketched = width * 5 // 4 if sketched is None else sketched
    if not 0 <= sketched <= _MOST_SKETCHED:
        raise InputError(f"--sketch {sketched}: give 0 to {_MOST_SKETCHED} numbers")
    examples = read_examples(texts)
    sample = [encode(folder.tokenizer, x.text, x.text_pair, longest) for x in calibration_sample(examples)]
    shown = random.Random(0).sample(examples, min(_MOST_TEXTS, len(examples)))
    ids = [encode(folder.tokenizer, x.text, x.text_pair, longest) for x in shown]
    model = with_vector(load_classifier(folder), ids, width * 5 // 8 if sketched else width, sketched)
    exported = export_model(model)
    with folder_in_place(out) as place:
        write_atomically(place / "model.onnx", exported.SerializeToString(deterministic=True))
        write_atomically(place / "tokenizer.json", folder.tokenizer_path.read_bytes())
        config = {"architecture": FOREIGN, "head": VECTOR, "labels": None, "name": f"{folder.name}-vector"}
        write_atomically(place / "config.json", (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())
        if sketched:
            sketch(sketched, 1 / math.sqrt(2)).save(place / WIDE, f"{folder.name}-sketch")
        mod = simplify(import_onnx(onnx.load_from_string((place / "model.onnx").read_bytes())))
        save_calibration(calibrate(mod, sample, sha256(place / "model.onnx")), place / "calibration.json")
    return model.classes


def with_vector(model: TextClassifier, ids: Sequence[Sequence[int]], directions: int, zeros: int = 0) -> TextClassifier:
    """The model with a head that gives so many zeros, and a text's mean row in so many of their main directions."""
    model.pool = mean_row
    weight, bias = main_directions(features_of(model, ids).astype(np.float64), directions)
    linear = nn.Linear(weight.shape[1], directions)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
        linear.bias.copy_(torch.from_numpy(bias))
    model.head = nn.Sequential(linear, nn.ConstantPad1d((zeros, 0), 0.0)) if zeros else linear
    model.classes = zeros + directions
    return model.eval()
