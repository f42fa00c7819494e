"""Which answers change between two models."""

import numpy as np
import pytest
from random_ngrams import model_of

from embbert_tvm import api
from embbert_tvm.data.dataset import read_examples
from embbert_tvm.errors import InputError
from embbert_tvm.training.compare import compare

TEXTS = [f"say word{i} and word{i * 7 % 5}" for i in range(40)]


@pytest.fixture
def models(tmp_path):
    """Two models of n-grams, the second with a label more, and a set that half of the first's answers are right of."""
    old, new = model_of("abc", seed=1), model_of("abcd", seed=2)
    old.save(tmp_path / "old")
    new.save(tmp_path / "new")
    answers = [old.labels[i] for i in old.logits(TEXTS).argmax(1)]
    labels = [label if i % 2 else "abcd"[i % 4] for i, label in enumerate(answers)]
    lines = [f"{label}\t{text}" for label, text in zip(labels, TEXTS, strict=True)]
    (tmp_path / "set.tsv").write_text("label\ttext\n" + "\n".join(lines) + "\n")
    after = [new.labels[i] for i in new.logits(TEXTS).argmax(1)]
    return tmp_path, answers, after, labels


def test_changes_for_better_and_worse_and_by_class(models):
    folder, before, after, labels = models
    found = compare(folder / "old", folder / "new", folder / "set.tsv")
    assert found.old == np.mean([x == y for x, y in zip(before, labels, strict=True)])
    assert found.new == np.mean([x == y for x, y in zip(after, labels, strict=True)])
    both = list(zip(before, after, labels, strict=True))
    assert len(found.changes) == sum(x != y for x, y, _ in both) > 0
    assert found.count("better") == sum(x != z and y == z for x, y, z in both)
    assert found.count("worse") == sum(x == z and y != z for x, y, z in both) > 0
    assert found.count("other") == sum(x != y and z not in (x, y) for x, y, z in both)
    assert sum(x.examples for x in found.classes) == 40
    assert sum(x.better for x in found.classes) == found.count("better")
    assert [x.example for x in found.changes] == [
        example for example, (x, y, _) in zip(read_examples(folder / "set.tsv"), both, strict=True) if x != y
    ]


def test_a_package_answers_as_its_folder(models):
    folder, _, _, _ = models
    api.compile(folder / "old", "host", folder / "package")
    assert compare(folder / "package", folder / "old", folder / "set.tsv").changes == []
    same = compare(folder / "package", folder / "new", folder / "set.tsv")
    assert same == compare(folder / "old", folder / "new", folder / "set.tsv")


def test_the_command(cli, models):
    folder, before, after, _ = models
    arguments = ("compare", folder / "old", folder / "new", "--data", folder / "set.tsv")
    result = cli(*arguments, "-o", folder / "changes.tsv", "--json")
    assert result.status == 0
    changed = sum(x != y for x, y in zip(before, after, strict=True))
    assert result.json["changed"] == changed == sum(result.json[kind] for kind in ("better", "worse", "other"))
    assert len((folder / "changes.tsv").read_text().splitlines()) == 1 + changed
    result = cli(*arguments)
    assert f"{changed} answers" in result.out
    assert "for worse" in result.out


def test_what_is_no_classifier_is_refused(models):
    folder, *_ = models
    with pytest.raises(InputError, match="no such model folder"):
        compare(folder / "old", folder / "nothing", folder / "set.tsv")
