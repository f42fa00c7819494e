"""The table of tasks, and the splits that are made of their sets."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embbert_tvm.data.dataset import Example, examples_sha256, read_examples, write_examples
from embbert_tvm.data.leaks import example_key
from embbert_tvm.data.metrics import CLASSIFICATION, REGRESSION
from embbert_tvm.data.splits import cut, read_splits, without_contradictions, without_leaks
from embbert_tvm.data.tasks import all_tasks, find_tasks
from embbert_tvm.errors import InputError
from embbert_tvm.resources import resource

TEXT = st.text("ab ", min_size=1, max_size=3)
EXAMPLES = st.lists(st.builds(Example, st.sampled_from(["0", "1"]), TEXT, st.none() | TEXT), max_size=12)


def test_both_suites_are_whole():
    names = {suite: {task.name for task in find_tasks(suite)} for suite in ("tinynlp", "glue")}
    assert names == {
        "tinynlp": {"imdb", "ag_news", "cyberbullying", "limit", "emotion", "nlu", "snips"},
        "glue": {"cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"},
    }
    assert [task.name for task in all_tasks().values() if not task.mean] == ["wnli"]
    assert [task.name for task in all_tasks().values() if task.regression] == ["stsb"]


@pytest.mark.parametrize("task", all_tasks().values(), ids=all_tasks())
def test_a_task_is_consistent(task):
    assert set(task.metrics) <= set(REGRESSION if task.regression else CLASSIFICATION)
    assert {"label", "text"} <= set(task.columns) <= {"label", "text", "text_pair"}
    assert "train" in task.splits
    if "f1_positive" in task.metrics:
        assert sorted(task.labels) == ["0", "1"]  # "1" is class number 1, the positive one
    assert task.licence


def test_glue_metrics():
    first = {task.name: task.metrics[0] for task in find_tasks("glue")}
    assert first == {
        **dict.fromkeys(("sst2", "mnli", "qnli", "rte", "wnli"), "accuracy"),
        **{"cola": "mcc", "mrpc": "f1_positive", "qqp": "f1_positive", "stsb": "spearman"},
    }


def test_tests_of_mnli():
    (mnli,) = find_tasks("mnli")
    assert [mnli.figure_name(test) for test in mnli.tests] == ["mnli", "mnli-mismatched"]


@pytest.mark.parametrize("names", ["sst3", "", "emotion,"])
def test_unknown_names(names):
    if names == "emotion,":
        assert [task.name for task in find_tasks(names)] == ["emotion"]
        return
    with pytest.raises(InputError, match="choose from tinynlp, glue, imdb"):
        find_tasks(names)


@given(EXAMPLES, EXAMPLES, EXAMPLES, EXAMPLES)
def test_no_text_is_in_two_splits(train, dev, test, other):
    found = without_leaks(train, dev, {"test": test, "test_other": other})
    keys = [{example_key(x) for x in part} for part in (found.train, found.dev, [*test, *other])]
    assert not keys[0] & (keys[1] | keys[2])
    assert not keys[1] & keys[2]
    assert found.tests == {"test": test, "test_other": other}
    assert found.removed == {"train": len(train) - len(found.train), "dev": len(dev) - len(found.dev)}
    assert [x for x in train if example_key(x) not in keys[1] | keys[2]] == found.train


def test_texts_are_the_same_whatever_case_and_space():
    found = without_leaks([Example("0", "Play  it"), Example("0", "a", "b")], [], {"test": [Example("1", "play it ")]})
    assert found.train == [Example("0", "a", "b")]


@given(EXAMPLES)
def test_a_cut_is_by_text_and_repeatable(examples):
    rest, taken = cut(examples, "x")
    assert (rest, taken) == cut(examples, "x")
    assert sorted(map(repr, rest + taken)) == sorted(map(repr, examples))
    assert not {example_key(x) for x in rest} & {example_key(x) for x in taken}


def test_a_cut_is_a_tenth():
    examples = [Example("0", f"text {i}") for i in range(1000)]
    assert [len(part) for part in cut(examples, "x")] == [900, 100]
    assert cut(examples, "x") != cut(examples, "y")


@given(EXAMPLES)
def test_contradictions_go(examples):
    kept = without_contradictions(examples)
    assert len({example_key(x) for x in kept}) == len({(x.label, example_key(x)) for x in kept})


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.xz", "a.tsv.gz"])
def test_what_is_written_is_read(tmp_path, name):
    examples = [Example("on", 'say "on"\tor\n off', "x"), Example("off", "é", "y")]
    write_examples(tmp_path / name, examples)
    found = read_examples(tmp_path / name)
    assert found == [Example("on", 'say "on" or off', "x"), Example("off", "é", "y")]
    assert examples_sha256(found) == examples_sha256(reversed(examples))
    assert examples_sha256(found) != examples_sha256(examples[:1])


def test_the_shipped_snips_has_leaks_that_are_left_out():
    (snips,) = find_tasks("snips")
    splits = read_splits(resource("data"), snips)
    assert (len(splits.train), len(splits.dev), len(splits.tests["test"])) == (13000, 699, 700)
    assert splits.removed == {"train": 84, "dev": 1}


def test_a_split_that_is_not_there(tmp_path):
    (cola,) = find_tasks("cola")
    with pytest.raises(InputError, match=r"has no train\.tsv\.xz: fetch it"):
        read_splits(tmp_path, cola)
    (tmp_path / "cola").mkdir()
    (tmp_path / "cola" / "train.tsv").write_text("label\ttext\n2\ta\n")
    with pytest.raises(InputError, match="line 2: label '2'"):
        read_splits(tmp_path, dataclasses.replace(cola))
