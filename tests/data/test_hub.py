"""Tasks through the `datasets` library, from files instead of the network."""

import dataclasses
import sys

import pytest

from embbert_tvm.data.dataset import read_examples
from embbert_tvm.data.hub import fetch, fetch_missing
from embbert_tvm.data.tasks import all_tasks
from embbert_tvm.errors import InputError, WorkError


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.fixture
def parquet(tmp_path):
    """Write splits as parquet with class labels where there are; gives the source that loads them."""
    import datasets

    def write(labels=None, **splits):
        files = {}
        for name, columns in splits.items():
            made = datasets.Dataset.from_dict(columns)
            if labels:
                made = made.cast_column("label", datasets.ClassLabel(names=labels))
            files[name] = str(tmp_path / f"{name}.parquet")
            made.to_parquet(files[name])
        return {"path": "parquet", "data_files": files}

    return write


def split(folder, name):
    return [(x.label, x.text, x.text_pair) for x in read_examples(folder / f"{name}.tsv.xz")]


def test_official_splits_stay(tmp_path, parquet):
    source = parquet(
        ["sadness", "joy", "love", "anger", "fear", "surprise"],
        train={"text": ["a", "b\n c", "  "], "label": [0, 5, 1]},
        validation={"text": ["d"], "label": [1]},
        test={"text": ["e", "f"], "label": [3, -1]},
    )
    sizes = fetch(all_tasks()["emotion"], tmp_path / "data", source)
    folder = tmp_path / "data" / "emotion"
    assert split(folder, "train")[:2] == [("sadness", "a", None), ("surprise", "b c", None)]
    assert split(folder, "dev") == [("joy", "d", None)]
    assert split(folder, "test") == [("anger", "e", None)]
    assert sizes["test"] == 1


def test_glue_dev_becomes_test_and_dev_is_cut_from_train(tmp_path, parquet):
    texts = [f"text {i}" for i in range(50)]
    source = parquet(
        ["entailment", "neutral", "contradiction"],
        train={"premise": texts, "hypothesis": texts[::-1], "label": [i % 3 for i in range(50)]},
        validation_matched={"premise": ["m"], "hypothesis": ["n"], "label": [1]},
        validation_mismatched={"premise": ["o"], "hypothesis": ["p"], "label": [2]},
    )
    assert fetch(all_tasks()["mnli"], tmp_path, source) == {"train": 45, "dev": 5, "test": 1, "test_mismatched": 1}
    folder = tmp_path / "mnli"
    assert split(folder, "test") == [("neutral", "m", "n")]
    assert split(folder, "test_mismatched") == [("contradiction", "o", "p")]
    assert not set(split(folder, "train")) & set(split(folder, "dev"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    fetch(all_tasks()["mnli"], tmp_path, source)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_scores_stay_numbers(tmp_path, parquet):
    rows = {"sentence1": ["a"] * 30, "sentence2": [f"b{i}" for i in range(30)], "label": [2.5] * 30}
    fetch(all_tasks()["stsb"], tmp_path, parquet(train=rows, validation=rows))
    assert split(tmp_path / "stsb", "test")[0] == ("2.5", "a", "b0")


def test_a_csv_of_kaggles_without_splits(tmp_path):
    rows = "".join(f"tweet {i},{'age' if i % 2 else 'religion'}\n" for i in range(200))
    (tmp_path / "tweets.csv").write_text(f"tweet_text,cyberbullying_type\n{rows}twice,age\nTwice,religion\n")
    source = {"path": "csv", "data_files": str(tmp_path / "tweets.csv")}
    sizes = fetch(all_tasks()["cyberbullying"], tmp_path, source)
    assert sizes == {"train": 162, "test": 20, "dev": 18}
    assert not any("wice" in text for _, text, _ in split(tmp_path / "cyberbullying", "train"))


def test_only_what_is_missing_is_fetched(tmp_path):
    (tmp_path / "cola").mkdir()
    (tmp_path / "cola" / "train.tsv").write_text("")
    assert not fetch_missing(all_tasks()["cola"], tmp_path)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"columns": {"label": "label", "text": "sentence"}}, InputError, "no column sentence"),
        ({"splits": {"train": "training"}}, InputError, "no split training"),
        ({"labels": ("a",)}, InputError, "label 1"),
        ({"source": {"path": "parquet", "data_files": "none.parquet"}}, WorkError, "cannot be loaded"),
        ({"source": None}, InputError, "lets nobody serve it"),
    ],
)
def test_what_does_not_fit_leaves_nothing(tmp_path, parquet, change, error, message):
    source = parquet(train={"text": ["a"] * 20, "label": [1] * 20}, test={"text": ["b"], "label": [0]})
    task = dataclasses.replace(all_tasks()["imdb"], **{"source": source, **change})
    with pytest.raises(error, match=message):
        fetch(task, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"embbert-tvm\[datasets\]"):
        fetch(all_tasks()["cola"], tmp_path)
