"""A suite's figures: what is measured, and what is refused."""

import dataclasses
import json
import random

import numpy as np
import pytest
import small
from heard import Heard

from embbert_tvm import progress
from embbert_tvm.data.dataset import Example, write_examples
from embbert_tvm.data.splits import read_split, read_splits
from embbert_tvm.data.tasks import Task, all_tasks
from embbert_tvm.errors import InputError
from embbert_tvm.models.folder import read_folder
from embbert_tvm.report.suite import text
from embbert_tvm.training import suite
from embbert_tvm.training.evaluate import float_runner, run_all
from embbert_tvm.training.record import TrainingRecord, read_record, recorded_set, write_record
from embbert_tvm.training.suite import Figure, Summary

TOY = Task("toy", "glue", {}, {}, ("accuracy", "mcc"), "none", labels=small.LABELS)


def examples(count, seed):
    rng = random.Random(seed)
    words = " ".join(small.TEXTS).split()
    return [
        Example(rng.choice(small.LABELS), " ".join(rng.choices(words, k=rng.randrange(1, 9)))) for _ in range(count)
    ]


@pytest.fixture
def data(tmp_path):
    """A folder with the sets of TOY, of which train shares a text with test."""
    sets = {"train": examples(30, 1), "dev": examples(10, 2), "test": examples(20, 3)}
    sets["train"].append(sets["test"][0])
    for name, found in sets.items():
        write_examples(tmp_path / "data" / "toy" / f"{name}.tsv.xz", found)
    return tmp_path / "data"


@pytest.fixture
def trained(tmp_path, data):
    """Make `runs/toy-SEED`, as if trained on these sets; gives the folder of the runs."""

    def make(seed, train=None, dev=None):
        splits = read_splits(data, TOY)
        folder = small.copy_of_folder(tmp_path / "runs" / f"toy-{seed}")
        sets = (recorded_set(data, splits.train if train is None else train),)
        sets += (recorded_set(data, splits.dev if dev is None else dev),)
        write_record(folder, TrainingRecord("toy", seed, "mcc", 0.5, 1, *sets))
        return tmp_path / "runs"

    return make


def test_float_and_compiled_on_every_example(trained, data):
    trained(1)
    runs = suite.find_runs(trained(0), [TOY])
    assert [run.record.seed for run in runs] == [0, 1]
    heard = Heard()
    with progress.heard_by(heard):
        figures = suite.measure(runs[:1], data, compiled=True, processes=2)
    assert heard.notes == []
    assert [what.split()[-1] for what in heard.tasks if what.startswith(runs[0].folder.name)] == ["float", "int8"]
    assert [(x.precision, x.metric) for x in figures] == [
        ("float", "accuracy"),
        ("float", "mcc"),
        ("int8", "accuracy"),
        ("int8", "mcc"),
    ]
    assert all((x.task, x.examples, x.seed, x.model) == ("toy", 20, 0, "small") for x in figures)
    # Random weights: the compiled model still says what the float one says.
    assert abs(figures[0].value - figures[2].value) <= 0.1


def test_processes_do_not_change_the_order():
    folder = read_folder(small.folder())
    ids = [small.some_ids(n, folder.config.vocabulary_size) for n in (9, 1, 30, 4, 17)]
    heard = Heard()
    with progress.heard_by(heard):
        shared = run_all(float_runner(folder), ids, 3)
    assert np.array_equal(shared, run_all(float_runner(folder), ids))
    assert heard.tasks == {"running the model": [(n, 5, "") for n in range(1, 6)]}


@pytest.mark.parametrize(
    ("learned", "message"),
    [
        (lambda s: {"dev": s.tests["test"]}, "chosen on toy's test set"),
        (lambda s: {"dev": s.tests["test"][::-1]}, "chosen on toy's test set"),
        (lambda s: {"train": s.tests["test"]}, "trained on toy's test set"),
    ],
)
def test_what_has_seen_the_test_is_refused(trained, data, learned, message):
    runs = suite.find_runs(trained(0, **learned(read_splits(data, TOY))), [TOY])
    with pytest.raises(InputError, match=message):
        suite.measure(runs, data)


def test_a_train_set_as_published_is_refused_where_it_leaks(trained, data):
    (run,) = suite.find_runs(trained(0, train=read_split(data, TOY, "train")), [TOY])
    with pytest.raises(InputError, match=r"as published, of which \d+ texts are in dev or test too"):
        suite.measure([run], data)


def test_other_training_data_is_noted(trained, data):
    (run,) = suite.find_runs(trained(0, train=examples(5, 9)), [TOY])
    assert "is not comparable" in suite.check(run, read_splits(data, TOY), [])


def test_two_models_of_one_seed(trained):
    runs = trained(0)
    (runs / "toy-0").rename(runs / "again")
    with pytest.raises(InputError, match="toy with seed 0 is in"):
        suite.find_runs(trained(0), [TOY])


@pytest.mark.parametrize("content", ["{}", "[]", "no", '{"task": 1}'])
def test_bad_records(trained, content):
    runs = trained(0)
    (runs / "toy-0" / "training.json").write_text(content)
    with pytest.raises(InputError, match="holds no training record"):
        suite.find_runs(runs, [TOY])


def test_no_models(tmp_path, trained):
    with pytest.raises(InputError, match="holds no trained model of toy"):
        suite.find_runs(tmp_path, [TOY])
    with pytest.raises(InputError, match=r"training\.json: cannot be read"):
        read_record(tmp_path)


def test_summary_and_means_leave_wnli_out():
    def figure(task, metric, value, seed, precision="float"):
        return Figure(task, metric, value, 10, seed, precision, "m")

    figures = [
        figure("mrpc", "f1_positive", 0.8, 0),
        figure("mrpc", "accuracy", 0.1, 0),
        figure("mrpc", "f1_positive", 0.6, 1),
        figure("wnli", "accuracy", 0.4, 0),
        figure("rte", "accuracy", 0.5, 0),
    ]
    summaries = suite.summarize(figures)
    assert summaries[0].mean == pytest.approx(0.7)
    assert summaries[0].deviation == pytest.approx(np.std([0.8, 0.6], ddof=1))
    assert summaries[1] == Summary("mrpc", "accuracy", "float", 0.1, None, (0,), 10)
    tasks = [all_tasks()[name] for name in ("mrpc", "wnli", "rte", "cola")]
    means = suite.suite_means(summaries, tasks)
    assert means == {"float": (pytest.approx(0.6), ["mrpc", "rte"])}
    shown = text(summaries, means, tasks).splitlines()
    assert shown[1].split() == ["mrpc", "f1_positive", "70.00", "±", "14.14", "0,1", "10"]
    assert shown[3].split()[:3] == ["wnli", "accuracy", "40.00"]  # never 1 - accuracy
    assert "60.00 over mrpc, rte" in shown[5]
    assert shown[-1] == "no models of cola"


def test_the_command(cli, trained, data, monkeypatch):
    monkeypatch.setitem(all_tasks(), "toy", dataclasses.replace(TOY))
    trained(0)
    runs = trained(1)
    found = cli("evaluate", "--suite", "toy", "--data", data, "--runs", runs, "--json")
    assert found.status == 0, found.err
    assert {"task", "metric", "value", "examples", "seed", "precision"} <= set(found.json["figures"][0])
    assert found.json["summary"][0]["seeds"] == [0, 1]
    assert found.json["means"]["float"]["tasks"] == ["toy"]
    shown = cli("evaluate", "--suite", "toy", "--data", data, "--runs", runs)
    assert json.loads(json.dumps(shown.out)).startswith("task")
    for wrong in (["m", "--suite", "toy"], ["--suite", "toy"], ["m", "--compiled"], []):
        assert cli("evaluate", *wrong, "--data", data).status == 2
