"""A vocabulary pruned with its model: tables, ids in the graph, tokenizer and statistics together."""

from __future__ import annotations

import json

import kinds
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from small import classifier, normal
from test_folder import WORDS, tokenizer

from embbert_tvm.data.tokenizer import load_tokenizer
from embbert_tvm.errors import InputError
from embbert_tvm.graph.door import normalize
from embbert_tvm.graph.door.rows_kept import keep_rows
from embbert_tvm.hub_export import export_hub_folder
from embbert_tvm.source import find_source, pruned_source

CORPUS = "turn off the lights\nplay the lights\n"
# What the corpus does not need; padding stays.
KEPT = [n for n, word in enumerate(WORDS) if word not in ("music", "[MASK]")]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(folder of a BERT of pairs as it is, the same with its vocabulary pruned), exported by the command's function."""
    root = tmp_path_factory.mktemp("prune")
    kinds.model("bert").save_pretrained(root / "in")
    tokenizer().save(str(root / "in" / "tokenizer.json"))
    (root / "corpus.txt").write_text(CORPUS)
    export_hub_folder(root / "in", root / "whole", root / "corpus.txt")
    done = export_hub_folder(root / "in", root / "pruned", root / "corpus.txt", root / "corpus.txt")
    assert (done.pruned.tokens_before, done.pruned.tokens_after) == (len(WORDS), len(KEPT))
    assert done.pruned.split_otherwise == 0
    return root / "whole", root / "pruned"


def logits(folder, ids) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    return session.run(None, {"ids": np.array([ids])})[0][0]


def test_texts_of_the_corpus_are_answered_as_before(exported):
    whole, pruned = exported
    before, after = load_tokenizer(whole / "tokenizer.json"), load_tokenizer(pruned / "tokenizer.json")
    # The second text of a pair has a type of its own, told by the separator's id.
    for texts in (("turn off the lights",), ("play the lights", "turn off")):
        old, new = before.encode(*texts).ids, after.encode(*texts).ids
        assert [KEPT[i] for i in new] == old
        np.testing.assert_allclose(logits(pruned, new), logits(whole, old), atol=1e-6)


def test_tables_have_the_rows_that_are_kept(exported):
    whole, pruned = ({t.name: t for t in onnx.load(p / "model.onnx").graph.initializer} for p in exported)
    tables = [name for name, tensor in pruned.items() if list(tensor.dims[:1]) == [len(KEPT)] and len(tensor.dims) == 2]
    assert tables
    for name in tables:
        old, new = numpy_helper.to_array(whole[name]), numpy_helper.to_array(pruned[name])
        assert np.array_equal(new, old[KEPT])


def test_compile_prunes_and_reports(cli, exported, tmp_path):
    whole, pruned = exported
    (tmp_path / "corpus.txt").write_text(CORPUS)
    label = kinds.LABELS[0]
    (tmp_path / "dev.tsv").write_text(f"label\ttext\n{label}\tplay music\n{label}\tturn off\n")
    options = ("--prune-vocabulary", tmp_path / "corpus.txt", "--dev", tmp_path / "dev.tsv", "--max-length", 16)
    result = cli("compile", whole, "--target", "cortex-m4", "--json", *options, "-o", tmp_path / "p")
    assert result.status == 0
    found = result.json["vocabulary"]
    assert (found["tokens_before"], found["tokens_after"]) == (len(WORDS), len(KEPT))
    assert found["split_otherwise"] == 0.25  # "music" of four words
    for folder, key in ((whole, "accuracy_before"), (pruned, "accuracy_after")):
        encode = load_tokenizer(folder / "tokenizer.json").encode
        right = [logits(folder, encode(text).ids).argmax() == 0 for text in ("play music", "turn off")]
        assert found[key] == np.mean(right)
    metadata = json.loads((tmp_path / "p" / "metadata.json").read_text())
    # What has rows of another table is no limit: the model had more rows than the tokenizer tokens.
    assert metadata["vocabulary"] == len(KEPT)
    assert metadata["precision"] == "int8"


def test_a_vocabulary_of_a_size(exported, tmp_path):
    source = find_source(exported[0])
    (tmp_path / "corpus.txt").write_text(CORPUS)
    _, report = pruned_source(source, tmp_path / "corpus.txt", len(KEPT) - 2, None, 16)
    assert report.tokens_after == len(KEPT) - 2
    assert report.split_otherwise > 0
    with pytest.raises(InputError, match="a vocabulary of 9 cannot hold"):
        pruned_source(source, tmp_path / "corpus.txt", 9, None, 16)


def test_what_cannot_be_pruned_is_refused(cli, exported, tmp_path):
    weights = {"table": normal(40, 4), "axis": np.array([1]), "low": np.array(5), "fc__weight": normal(4, 3)}
    body = "i = Max(ids, low) x = Gather(table, i) y = ReduceMean<keepdims=0>(x, axis) logits = MatMul(y, fc__weight)"
    model = normalize(classifier(body, **weights)).model
    with pytest.raises(InputError, match="computes with token ids"):
        keep_rows(model, [0, 1, 2])
    bare = tmp_path / "bare.onnx"
    onnx.save(model, bare)
    (tmp_path / "corpus.txt").write_text(CORPUS)
    result = cli("compile", bare, "--prune-vocabulary", tmp_path / "corpus.txt", "-o", tmp_path / "p")
    assert (result.status, "needs a tokenizer.json" in result.err) == (2, True)
    result = cli("compile", exported[0], "--vocabulary-size", 50, "-o", tmp_path / "p")
    assert (result.status, "--vocabulary-size goes with --prune-vocabulary" in result.err) == (2, True)


def test_export_prunes(cli, tmp_path):
    given = tmp_path / "in"
    kinds.model("distilbert").save_pretrained(given)
    tokenizer().save(str(given / "tokenizer.json"))
    (tmp_path / "corpus.txt").write_text(CORPUS)
    result = cli("export", given, "-o", tmp_path / "out", "--json", "--prune-vocabulary", tmp_path / "corpus.txt")
    assert (result.status, result.json["vocabulary"]["tokens_after"]) == (0, len(KEPT))
