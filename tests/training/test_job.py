"""From a TSV to a model folder."""

import dataclasses
import json
import lzma
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from embbert_tvm.data.dataset import read_examples
from embbert_tvm.data.leaks import example_key
from embbert_tvm.errors import InputError
from embbert_tvm.models.config import EmbBertConfig
from embbert_tvm.models.folder import ModelFolder, find_model, read_folder
from embbert_tvm.models.registry import load_classifier
from embbert_tvm.report.training import advice, compared
from embbert_tvm.resources import resource
from embbert_tvm.training import evaluate as evaluate_module
from embbert_tvm.training.evaluate import EvaluationOptions, evaluate
from embbert_tvm.training.finetune import TrainingCallbacks
from embbert_tvm.training.job import Job, run_job
from embbert_tvm.training.recipe import Recipe
from embbert_tvm.training.record import read_record
from embbert_tvm.training.sets import read_sets

pytestmark = pytest.mark.usefixtures("quick")
RECIPE = Recipe(epochs=6, batch_size=8, lr=1e-2)


def job(tsv, output, **options):
    return Job(tsv, output, RECIPE, **{"preset": "quick", **options})


def test_a_folder_that_evaluates(tsv, tmp_path):
    output = tmp_path / "models" / "lights"
    result = run_job(job(tsv, output, command="embbert-tvm train set.tsv"))
    files = {"README.md", "config.json", "model.onnx", "model.safetensors", "tokenizer.json", "training.json"}
    files.add("texts-read.xz")
    assert {x.name for x in output.iterdir()} == files
    assert [x.name for x in output.parent.iterdir()] == ["lights"]  # no checkpoint, no temporary name
    folder = read_folder(output)
    assert folder == result.folder
    assert (folder.name, folder.labels, folder.config.max_length) == ("lights", ("off", "on"), 16)
    assert not folder.onnx_is_stale()
    assert "embbert-tvm train set.tsv" in (output / "README.md").read_text()
    found = evaluate(folder, tsv)
    assert (found.task, found.metric, found.examples, found.truncated) == ("set", "accuracy", 80, 0)
    assert found.value > 0.8
    drawn = EvaluationOptions(limit=10, seed=3)
    assert evaluate(folder, tsv, drawn) == evaluate(folder, tsv, drawn)
    assert evaluate(folder, tsv, EvaluationOptions("mcc", limit=10)).examples == 10
    with pytest.raises(InputError, match="choose from accuracy, mcc, f1"):
        evaluate(folder, tsv, EvaluationOptions("spearman"))
    assert found.unknown == {}
    dev = {example_key(x) for x in read_sets(job(tsv, output)).dev}
    assert found.seen == len({x.text for x in read_examples(tsv) if example_key(x) not in dev}) > 0
    record = read_record(output)
    assert f"| {record.train.examples} | {record.train.sha256} |" in (output / "README.md").read_text()
    assert [x.label for x in found.classes] == ["off", "on"]
    wrong = sum(x.predicted != x.example.label for x in found.predictions)
    assert wrong == sum(x.count for x in found.confused) == round((1 - found.value) * 80)

    more = tmp_path / "more.tsv"
    more.write_text(tsv.read_text() + "dim\tturn the lights down\n" * 20)
    with_unknown = evaluate(folder, more)
    assert with_unknown.unknown == {"dim": 20}
    assert with_unknown.value == pytest.approx(found.value * 80 / 100)
    assert {x.expected for x in with_unknown.confused} >= {"(another)"}
    assert evaluate(folder, more, EvaluationOptions("mcc")).value < 1
    more.write_text("label\ttext\ndim\tturn the lights down\n")
    with pytest.raises(InputError, match="not one label is the model's, which knows off, on"):
        evaluate(folder, more)


@pytest.mark.usefixtures("without_export")
def test_the_linear_baseline_and_dev_are_told_class_by_class(tsv, tmp_path):
    notes = []
    result = run_job(job(tsv, tmp_path / "m"), TrainingCallbacks(on_note=notes.append))
    assert result.baseline.dev_accuracy > 0.8
    assert any(note.startswith("ngrams, a linear model of") for note in notes)
    assert notes[-1] == "exporting to ONNX, and calibrating on dev"
    assert [x.label for x in result.classes] == ["off", "on"]
    assert sum(x.examples for x in result.classes) == result.examples
    wrong = sum(x.count for x in result.confused)
    assert result.accuracy == pytest.approx(1 - wrong / result.examples)
    record = read_record(tmp_path / "m")
    assert record.baseline["accuracy"] == result.baseline.dev_accuracy
    assert record.baseline["ngrams_bytes"] == result.baseline.model.bytes
    shown = compared(result).splitlines()
    assert shown[1].split()[:1] == ["ngrams"]
    assert f"{100 * result.accuracy:.2f} %" in next(line for line in shown if line.startswith("*"))
    worse = dataclasses.replace(result, accuracy=result.baseline.dev_accuracy - 0.1)
    assert "a linear model is better than this one" in advice(worse)
    assert advice(dataclasses.replace(result, accuracy=result.baseline.dev_accuracy + 0.1)) is None


@pytest.mark.usefixtures("without_export")
def test_the_same_job_gives_the_same_files(tsv, tmp_path):
    for name in ("a", "b"):
        run_job(job(tsv, tmp_path / name / "m"))
    for file in (tmp_path / "a" / "m").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "m" / file.name).read_bytes()


@pytest.mark.usefixtures("without_export")
def test_a_pair_regression(tmp_path):
    rows = "\n".join(f"{i % 5}\tturn {'it ' * (i % 5)}on\tturn it off" for i in range(20))
    (tmp_path / "pairs.tsv").write_text(f"label\ttext\ttext_pair\n{rows}\n")
    result = run_job(job(tmp_path / "pairs.tsv", tmp_path / "m", regression=True))
    assert (result.metric, result.folder.labels, result.folder.classes) == ("spearman", None, 1)
    assert read_folder(tmp_path / "m").labels is None


@pytest.mark.usefixtures("without_export")
def test_starting_from_a_base(tsv, tmp_path):
    run_job(job(tsv, tmp_path / "base"))
    options = {"base": tmp_path / "base", "preset": None, "max_length": 8}
    still = dataclasses.replace(job(tsv, tmp_path / "still", **options), recipe=Recipe(epochs=1, lr=1e-12))
    run_job(still)
    base, derived = (load_classifier(tmp_path / name) for name in ("base", "still"))
    assert derived.config.max_length == 8
    torch.testing.assert_close(derived.head.weight, base.head.weight)
    torch.testing.assert_close(derived.embedder.position.weight, base.embedder.position.weight[:8])
    run_job(dataclasses.replace(still, output=tmp_path / "long", max_length=40))
    longer, known = (x.embedder.position.weight for x in (load_classifier(tmp_path / "long"), base))
    torch.testing.assert_close(longer, torch.cat([known, known[1:], known[1:10]]))  # 16, 15 and 9 rows
    renamed = tmp_path / "renamed.tsv"
    renamed.write_text(tsv.read_text().replace("off\t", "dark\t"))
    other = run_job(dataclasses.replace(still, train=renamed, output=tmp_path / "other"))
    assert other.folder.labels == ("dark", "on")
    torch.testing.assert_close(load_classifier(tmp_path / "other").blocks[0].query.weight, base.blocks[0].query.weight)
    for wrong in (
        {"preset": "quick"},
        {"tokenizer": tmp_path / "base" / "tokenizer.json"},
    ):
        with pytest.raises(InputError, match="base"):
            run_job(dataclasses.replace(still, **wrong))


@pytest.mark.usefixtures("without_export")
@pytest.mark.parametrize("seed", range(5))
def test_equal_texts_are_on_one_side_of_the_cut(tsv, tmp_path, seed):
    sets = read_sets(Job(tsv, tmp_path / "m", dataclasses.replace(RECIPE, seed=seed)))
    train, dev = ({example_key(x) for x in part} for part in (sets.train, sets.dev))
    assert not train & dev
    assert len(sets.train) + len(sets.dev) == 80
    assert 8 <= len(sets.dev) <= 16
    assert sets.left_out == {"train": 0}


def test_one_text_cannot_be_cut(tmp_path):
    (tmp_path / "one.tsv").write_text("label\ttext\na\tStop\nb\tstop!\n")
    with pytest.raises(InputError, match="one text cannot be cut"):
        read_sets(Job(tmp_path / "one.tsv", tmp_path / "m", RECIPE))


def test_cut_texts_are_counted(tsv, tmp_path):
    notes = []
    result = run_job(job(tsv, tmp_path / "m", max_length=4), TrainingCallbacks(on_note=notes.append))
    assert result.truncated > 0
    assert any("were cut" in note for note in notes)


@pytest.mark.usefixtures("without_export")
def test_a_given_tokenizer_sets_the_vocabulary(tsv, tmp_path):
    run_job(job(tsv, tmp_path / "m", tokenizer=resource("models", "tokenizer.json")))
    assert read_folder(tmp_path / "m").config.vocabulary_size == 8192


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ("on\ta\non\tb\n", {}, "two labels are the least"),
        ("1\ta\n", {"regression": True}, "give --dev"),
        ("on\ta\noff\tb\n", {"preset": "huge"}, "choose from nano"),
    ],
)
def test_bad_jobs_leave_nothing(tmp_path, rows, options, message):
    path = tmp_path / "set.tsv"
    path.write_text("label\ttext\n" + rows)
    with pytest.raises(InputError, match=message):
        run_job(job(path, tmp_path / "m", **options))
    assert [x.name for x in tmp_path.iterdir()] == ["set.tsv"]


def test_a_dev_label_that_train_lacks_is_refused(tsv, tmp_path):
    dev = tmp_path / "dev.tsv.xz"
    dev.write_bytes(lzma.compress(b"label\ttext\nup\ta\n"))
    with pytest.raises(InputError, match="label 'up'"):
        run_job(job(tsv, tmp_path / "m", dev=dev))


@pytest.mark.usefixtures("without_export")
def test_only_a_model_folder_is_replaced(tsv, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"set\.tsv, which is not part of a model"):
        run_job(job(tsv, tmp_path))
    with pytest.raises(InputError, match="is a file"):
        run_job(job(tsv, tmp_path / "thesis.txt"))
    run_job(job(tsv, tmp_path / "m"))
    run_job(job(tsv, tmp_path / "m"))
    assert json.loads((tmp_path / "m" / "config.json").read_text())["name"] == "m"


def test_regression_is_scored_by_rank(tmp_path, monkeypatch):
    (tmp_path / "pairs.tsv").write_text("label\ttext\ttext_pair\n1\ta\tb\n2\ta b\tc\n3.5\ta b c\td\n")
    folder = ModelFolder(tmp_path, "m", EmbBertConfig(), None)
    shutil.copy(resource("models", "tokenizer.json"), folder.tokenizer_path)
    monkeypatch.setattr(evaluate_module, "fresh_onnx", lambda folder: folder.onnx)
    monkeypatch.setattr(evaluate_module, "Reference", lambda path: lambda ids: np.array([-len(ids)]))
    found = evaluate(folder, tmp_path / "pairs.tsv")
    assert (found.metric, found.value, found.examples) == ("spearman", pytest.approx(-1), 3)


def test_a_shipped_model_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_model("embbert-base") == resource("models", "embbert-base")
    assert find_model("elsewhere/embbert-base") == Path("elsewhere/embbert-base")
    (tmp_path / "embbert-base").mkdir()
    assert find_model("embbert-base") == Path("embbert-base")
    assert find_model("no-such-model") == Path("no-such-model")
