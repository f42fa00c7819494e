"""A base model as vectors: exported, compiled, embbert_embed(), and intents that are given by example."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import small
import torch

from embbert_tvm.device.package import load_package
from embbert_tvm.device.places import open_place
from embbert_tvm.errors import InputError
from embbert_tvm.models.folder import read_folder
from embbert_tvm.models.ngrams import load_ngram_model
from embbert_tvm.models.reference import Reference
from embbert_tvm.models.registry import load_classifier
from embbert_tvm.training.vector_export import export_vector

STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O1")


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("by-example") / "texts.tsv"
    rows = [f"name {n}\t{text}" for n, text in enumerate(small.TEXTS)]
    path.write_text("\n".join(["label\ttext", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def vectors(texts) -> Path:
    out = texts.with_name("vectors")
    assert export_vector(read_folder(small.folder()), out, texts) == 60
    return out


def test_the_vectors_are_the_mean_rows_in_their_main_directions_behind_a_sketch(vectors, texts, tmp_path):
    model, run = load_classifier(small.folder()), Reference(vectors / "model.onnx")
    tokenizer = read_folder(small.folder()).tokenizer
    ids = [tokenizer.encode(text).ids for text in small.TEXTS]
    with torch.no_grad():
        rows = torch.cat([model.states(torch.tensor([one])).mean(1) for one in ids]).numpy()
    found = np.stack([run(one) for one in ids])
    assert (found[:, :40] == 0).all()
    assert np.linalg.norm(found, axis=1).mean() == pytest.approx(1, abs=1e-4)
    spread = np.cov(found[:, 40:].T)  # along main directions, the strongest first
    np.testing.assert_allclose(spread, np.diag(np.diag(spread)), atol=1e-5)
    assert (np.diff(np.diag(spread)) < 1e-6).all()
    # Nothing of the rows is lost where there is no sketch: a linear map gives them back.
    assert export_vector(read_folder(small.folder()), tmp_path / "whole", texts, 0) == 32
    assert not (tmp_path / "whole" / "wide").exists()
    whole = np.stack([Reference(tmp_path / "whole" / "model.onnx")(one) for one in ids])
    back, *_ = np.linalg.lstsq(np.c_[whole, np.ones(len(ids))], rows, rcond=None)
    np.testing.assert_allclose(np.c_[whole, np.ones(len(ids))] @ back, rows, atol=1e-3)
    for sketched in (-1, 1025):
        with pytest.raises(InputError, match="give 0 to 1024"):
            export_vector(read_folder(small.folder()), tmp_path / "none", texts, sketched)
    with pytest.raises(InputError, match="is there already"):
        export_vector(read_folder(small.folder()), vectors, texts)


def test_the_sketch_is_the_same_in_c_and_of_the_whole_text(vectors, tmp_path, cli):
    assert cli("compile", vectors, "--target", "cortex-m7", "-o", tmp_path / "p").status == 0
    package, signs = load_package(tmp_path / "p"), load_ngram_model(vectors / "wide")
    long = "please turn the kitchen lights off again " * 100
    for place in ("host", "qemu"):
        with open_place(place, package) as device:
            for text in (*small.TEXTS[:2], long):
                found = device.classify(text).run.logits
                np.testing.assert_array_equal(found[:40], signs.logits([text])[0])


def test_compiled_they_find_their_own_examples(vectors, texts, tmp_path, cli):
    out = tmp_path / "package"
    assert cli("compile", vectors, "--target", "host", "-o", out).status == 0
    package = load_package(out)
    assert (package.head, package.classes) == ("vector", 60)

    result = cli("run", out, *small.TEXTS, "--examples", texts, "--json")
    shown = json.loads(result.out)["results"]
    assert [x["label"] for x in shown] == [f"name {n}" for n in range(len(small.TEXTS))]
    assert all(next(iter(x["scores"].values())) > 0.99 and not x["none"] for x in shown)
    assert "none of these" in cli("run", out, "again", "--examples", texts, "--threshold", "1.1").out
    plain = cli("run", small.package(), "again", "--examples", texts)
    assert (plain.status, "need a model of vectors" in plain.err) == (2, True)

    program = tmp_path / "embed"
    includes = [f"-I{folder}" for folder in {*package.includes, package.sources[0].parent}]
    source = Path(__file__).with_name("embed_test.c")
    subprocess.run(["gcc", *STRICT, *includes, source, *package.sources, "-lm", "-o", program], check=True)
    assert subprocess.run([program], check=False).returncode == 0
