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
from embbert_tvm.errors import InputError
from embbert_tvm.models.folder import read_folder
from embbert_tvm.models.reference import Reference
from embbert_tvm.models.registry import load_classifier
from embbert_tvm.vector_export import export_vector

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
    assert export_vector(read_folder(small.folder()), out, texts) == 32
    return out


def test_the_vectors_are_what_the_head_reads_less_their_mean(vectors, texts):
    model, run = load_classifier(small.folder()), Reference(vectors / "model.onnx")
    tokenizer = read_folder(small.folder()).tokenizer
    ids = [tokenizer.encode(text).ids for text in small.TEXTS]
    with torch.no_grad():
        features = torch.cat([model.features(torch.tensor([one])) for one in ids]).numpy()
    found = np.stack([run(one) for one in ids])
    np.testing.assert_allclose(found, features - features.mean(0), atol=1e-4)
    with pytest.raises(InputError, match="is there already"):
        export_vector(read_folder(small.folder()), vectors, texts)


def test_compiled_they_find_their_own_examples(vectors, texts, tmp_path, cli):
    out = tmp_path / "package"
    assert cli("compile", vectors, "--target", "host", "-o", out).status == 0
    package = load_package(out)
    assert (package.head, package.classes) == ("vector", 32)

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
