"""An EmbBERT that pools tokens behind its first layer, or keys in each, from the model to the C."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from small import TEXTS, some_ids

from embbert_tvm.compiler import CompileOptions, compile_model, find_source, llvm_runner
from embbert_tvm.data.tokenizer import train_tokenizer
from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import InputError
from embbert_tvm.graph.calibrate import load_calibration, sha256
from embbert_tvm.graph.float_tensors import calibrate_folder
from embbert_tvm.graph.import_onnx import load_onnx
from embbert_tvm.graph.onnx_export import export_folder
from embbert_tvm.graph.pipeline import front, run
from embbert_tvm.graph.precision import PLANS
from embbert_tvm.graph.quantize import quantize
from embbert_tvm.models.config import PRESETS, EmbBertConfig, MambaConfig
from embbert_tvm.models.embbert import EmbBert
from embbert_tvm.models.folder import read_folder
from embbert_tvm.models.registry import build, load_classifier
from embbert_tvm.target import load_cpu
from embbert_tvm.training.job import Job
from embbert_tvm.training.objectives import Trainee
from embbert_tvm.training.quantized import QuantizedClassifier
from embbert_tvm.training.recipe import ELECTRA, Recipe
from embbert_tvm.training.sets import read_sets
from embbert_tvm.training.start import start_model


def config(pool: int, layers: int = 2, keys: int = 1) -> EmbBertConfig:
    return EmbBertConfig(300, 64, 32, 16, kernel_size=4, layers=layers, pool_tokens=pool, pool_keys=keys)


@pytest.mark.parametrize(("pool", "keys"), [(2, 1), (3, 1), (4, 1), (1, 2), (1, 3), (1, 4), (2, 4)])
def test_padding_does_not_count(pool, keys):
    """In training, masked or alone, a text has the same logits."""
    torch.manual_seed(0)
    model = EmbBert(config(pool, keys=keys), 5, dropout=0.0).eval()
    ids = torch.randint(5, 300, (3, 13))
    lengths = (13, 7, 3)
    for row, length in zip(ids, lengths, strict=True):
        row[length:] = 0
    together = model(ids, ids != 0)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(together[row], model(ids[row : row + 1, :length])[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(model.train()(ids, ids != 0), together, atol=1e-5, rtol=0)
    model.eval()
    assert [len(rows[0]) for rows in model.layers(ids, ids != 0)] == [13, -(-13 // pool)]
    first = EmbBert(config(1, keys=keys), 5).eval()
    first.load_state_dict(model.state_dict())
    torch.testing.assert_close(first.layers(ids)[0], model.layers(ids)[0])


def test_older_files_have_no_pooling():
    values = config(1).to_dict()
    del values["pool_tokens"], values["pool_keys"]
    assert EmbBertConfig.from_dict(values) == config(1)
    with pytest.raises(InputError, match="pool_tokens must be a whole number"):
        EmbBertConfig.from_dict(values | {"pool_tokens": 0})


# By the name of a case, rows that are read as one behind the first layer, and keys. An export takes seconds: layers of
# `both` follow one another behind the pooling.
POOLED = {"tokens": (2, 1), "both": (4, 4), "three": (1, 3)}
LAYERS = {"both": 3}


@pytest.fixture(scope="module", params=POOLED)
def folder(request, tmp_path_factory):
    torch.manual_seed(0)
    tokenizer = train_tokenizer(TEXTS * 3, 60)
    pool, keys = POOLED[request.param]
    sizes = config(pool, LAYERS.get(request.param, 2), keys)
    model = build(dataclasses.replace(sizes, vocabulary_size=tokenizer.get_vocab_size()), 3, 0.0)
    path = tmp_path_factory.mktemp("pooled") / "model"
    export_folder(model.save_pretrained(path, name="pooled", labels=["a", "b", "c"], tokenizer=tokenizer))
    vocabulary = model.config.vocabulary_size
    calibrate_folder(path, [some_ids(length, vocabulary) for length in range(2, 60, 3)])
    return path


def integers_of(folder, precision):
    """What runs the quantized module before rows go in blocks, by LLVM."""
    exported = folder / "model.onnx"
    calibration = load_calibration(folder / "calibration.json", sha256(exported))
    return llvm_runner(quantize(run(front(load_onnx(exported))), calibration, PLANS[precision]).mod)


@pytest.mark.parametrize(("precision", "apart"), [("int8", 0.1), ("int4", 0.6), ("fp16", 0.01), ("fp32", 1e-4)])
def test_all_rows_go_in_blocks_and_the_c_has_the_bits(precision, apart, folder, tmp_path):
    """Attention took the text's rows for those that a pooling had left: reads past the end, and other bits."""
    read = read_folder(folder)
    model = load_classifier(read)
    made = compile_model(
        find_source(folder), load_cpu("host"), tmp_path / "p", CompileOptions(precision, max_length=33)
    )
    assert not [x for x in made.choices if "a row at a time" in x.reason]
    run_integers = None
    if precision.startswith("int"):
        calibration = load_calibration(folder / "calibration.json", sha256(folder / "model.onnx"))
        run_integers = llvm_runner(
            quantize(run(front(load_onnx(folder / "model.onnx"))), calibration, PLANS[precision]).mod
        )
    with open_place("host", load_package(tmp_path / "p")) as device:
        for length in (1, 2, 3, 4, 5, 8, 9, 32, 33):
            ids = some_ids(length, read.config.vocabulary_size)
            logits = device.run(ids).logits
            if run_integers is not None:
                np.testing.assert_array_equal(logits, run_integers(ids))
            with torch.no_grad():
                expected = model(torch.tensor([ids]))[0].numpy()
            assert np.abs(logits - expected).max() < apart * max(1, np.abs(expected).max())


def test_halves_take_fewer_keys_in_float32(folder, tmp_path):
    """A kernel of halves has as many keys as queries: it left out the rows past those."""
    read = read_folder(folder)
    model = load_classifier(read)
    compile_model(find_source(folder), load_cpu("cortex-m55"), tmp_path / "p", CompileOptions("fp16", max_length=17))
    with open_place("host", load_package(tmp_path / "p")) as device:
        for length in (1, 4, 5, 17):
            ids = some_ids(length, read.config.vocabulary_size)
            with torch.no_grad():
                expected = model(torch.tensor([ids]))[0].numpy()
            assert np.abs(device.run(ids).logits - expected).max() < 0.01 * max(1, np.abs(expected).max())


def test_trains_through_its_rounding(folder):
    """The graph that is compiled, pooled in torch as in C."""
    read = read_folder(folder)
    texts = [some_ids(length, read.config.vocabulary_size) for length in (2, 7, 12, 33)]
    quantized = QuantizedClassifier(load_classifier(read), texts, exported=onnx.load(folder / "model.onnx"))
    run_integers = integers_of(folder, "int8")
    with torch.no_grad():
        for ids in texts:
            found = quantized(torch.tensor([ids]))[0].numpy()
            assert np.abs(found - run_integers(ids)).max() < 0.1


def test_what_does_not_go_with_it_is_refused(tmp_path, monkeypatch):
    tsv = tmp_path / "set.tsv"
    tsv.write_text("label\ttext\ttags\n" + "on\tlights on\tB-thing O\noff\tlights off\tB-thing O\n" * 4)
    monkeypatch.setitem(PRESETS, "quick", config(1, 3))
    monkeypatch.setitem(PRESETS, "mamba", MambaConfig(300, 64, 16, 0, layers=1))
    job = Job(tsv, tmp_path / "m", Recipe(), preset="quick", pool_tokens=2)
    with pytest.raises(InputError, match="tags need --tag-layer 1"):
        start_model(job, read_sets(job))
    other = Job(tsv, tmp_path / "m", Recipe(), preset="mamba", pool_tokens=2)
    with pytest.raises(InputError, match="--pool-tokens is for an EmbBERT"):
        start_model(other, read_sets(other))
    keys = Job(tsv, tmp_path / "m", Recipe(), preset="mamba", pool_keys=2)
    with pytest.raises(InputError, match="--pool-keys is for an EmbBERT"):
        start_model(keys, read_sets(keys))
    with pytest.raises(InputError, match="no row for each"):
        Trainee(EmbBert(config(2), 2), ELECTRA, 8)
