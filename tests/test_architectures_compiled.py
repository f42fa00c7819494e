"""Every architecture from training to C: the compiled model gives the float model's label."""

from __future__ import annotations

import dataclasses
import functools
import random
import shutil

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F

from embbert_tvm.compiler import compile_model, find_source, llvm_runner
from embbert_tvm.data.tokenizer import encode
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.graph.calibrate import load_calibration, sha256
from embbert_tvm.graph.float_tensors import calibrate_folder
from embbert_tvm.graph.import_onnx import load_onnx
from embbert_tvm.graph.onnx_export import export_folder
from embbert_tvm.graph.pipeline import front, run
from embbert_tvm.graph.quantize import quantize
from embbert_tvm.models.config import PRESETS, ids_per_token
from embbert_tvm.models.folder import read_folder
from embbert_tvm.models.reference import Reference
from embbert_tvm.models.registry import build, load_classifier
from embbert_tvm.target import load_cpu
from embbert_tvm.training.quantized import QuantizedClassifier
from embbert_tvm.training.start import own_tokenizer

torch.set_num_threads(1)
FORMS = {
    "on": ["turn the {} on", "switch on the {} in here", "{} on please"],
    "off": ["turn the {} off", "no more {}", "the {} may go off"],
    "ask": ["is the {} on or off", "tell me about the {}", "how warm is the {} today"],
}
THINGS = ["lights", "heating", "radio", "fan", "kettle", "oven"]
LABELS = list(FORMS)
TEXTS = [(label, form.format(thing)) for label in LABELS for form in FORMS[label] for thing in THINGS]
ON_IDS = {"equal", "greater", "astype", "cumsum", "add"}

# What each runs in float32 beside bookkeeping on ids.
IN_FLOAT = {
    "base-sum": set(),
    "embedder-conv": set(),
    "bert-ne-ea": set(),
    "bert-2mb": set(),
    "mamba-2mb": set(),
    "hash": set(),
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The model folder of a preset's architecture, small, after a few seconds of training."""
    targets = torch.tensor([LABELS.index(label) for label, _ in TEXTS])

    def make(preset: str):
        torch.manual_seed(0)
        config = dataclasses.replace(PRESETS[preset], vocabulary_size=120)
        tokenizer, longest = own_tokenizer(config, [text for _, text in TEXTS] * 3), 24 * ids_per_token(config)
        ids = [encode(tokenizer, text, None, longest) for _, text in TEXTS]
        padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(x) for x in ids], batch_first=True)
        sizes = {"vocabulary_size": tokenizer.get_vocab_size(), "max_length": longest, "hidden_size": 16, "layers": 2}
        sizes |= {"expansion": 2, "feed_forward_size": 24, "reduced_size": 8 if config.reduced_size else 0}
        sizes |= {"kernel_size": 4 if getattr(config, "kernel_size", 0) else 0}
        config = dataclasses.replace(config, **{k: v for k, v in sizes.items() if hasattr(config, k)})
        model = build(config, len(LABELS), 0.0)
        optimizer, rng = torch.optim.AdamW(model.parameters(), lr=1e-2), random.Random(0)
        for _ in range(60):
            rows = rng.sample(range(len(TEXTS)), 24)
            loss = F.cross_entropy(model(padded[rows], padded[rows] != 0), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        folder = tmp_path_factory.mktemp("trained") / preset
        export_folder(model.save_pretrained(folder, name=preset, labels=LABELS, tokenizer=tokenizer))
        calibrate_folder(folder, ids)
        return folder, ids

    return functools.cache(make)


def agreement(package, place: str, ids: list[list[int]]) -> float:
    """The share of texts to which the device gives the float model's label."""
    reference = Reference(package.path / "src" / "model.onnx")
    with open_place(place, package) as device:
        return float(np.mean([device.run(x).logits.argmax() == reference(x).argmax() for x in ids]))


@pytest.mark.parametrize("preset", IN_FLOAT)
def test_gives_the_float_models_labels(preset, trained, tmp_path):
    folder, ids = trained(preset)
    compiled = compile_model(find_source(folder), load_cpu("host"), tmp_path / "p")
    in_float = {c.kernel for c in compiled.choices if c.precision != "int8"} - ON_IDS
    assert in_float == IN_FLOAT[preset]
    for kernel in ("matmul", "nn.conv1d"):
        assert not any(c.kernel == kernel and "head" in c.name for c in compiled.choices)
    package = load_package(tmp_path / "p")
    assert agreement(package, "host", ids) >= 0.96
    with open_place("host", package) as device:
        np.testing.assert_array_equal(device.slices(ids[0]).logits, device.run(ids[0]).logits)


@pytest.mark.parametrize("preset", IN_FLOAT)
def test_trains_on_the_graph_that_is_compiled(preset, trained):
    """With nothing rounded the graph gives PyTorch's logits; rounded, those of the module whose bits a package has."""
    folder, ids = trained(preset)
    model, exported = load_classifier(read_folder(folder)), folder / "model.onnx"
    quantized = QuantizedClassifier(model, ids, exported=onnx.load(exported))
    mod = run(front(load_onnx(exported)))
    integers = llvm_runner(quantize(mod, load_calibration(folder / "calibration.json", sha256(exported))).mod)
    texts = [torch.tensor([x]) for x in ids[::4]]
    with torch.no_grad():
        expected, found = (np.concatenate([m(x).numpy() for x in texts]) for m in (model, quantized.in_float))
        rounded = np.concatenate([quantized(x).numpy() for x in texts])
    compiled = np.stack([integers(x) for x in ids[::4]])
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.abs(rounded - compiled).mean() < 0.2 * np.abs(expected - compiled).mean()
    assert (rounded.argmax(1) == compiled.argmax(1)).all()


@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="no QEMU")
def test_mamba_on_an_emulated_board(trained, tmp_path):
    folder, ids = trained("mamba-2mb")
    compile_model(find_source(folder), load_cpu("cortex-m7"), tmp_path / "p")
    assert agreement(load_package(tmp_path / "p"), "qemu", ids[::6]) == 1.0
