"""Which model a training keeps: n-grams beside it, alone, or neither, by dev and by limits."""

import dataclasses

import numpy as np
import pytest
import torch
from random_ngrams import model_of

from embbert_tvm.data.dataset import Example
from embbert_tvm.errors import InputError, WorkError
from embbert_tvm.models.folder import read_folder
from embbert_tvm.models.ngrams import NgramFolder, load_ngram_model
from embbert_tvm.models.registry import load_classifier
from embbert_tvm.report.training import compared, recipes
from embbert_tvm.training import job as job_module
from embbert_tvm.training import search as search_module
from embbert_tvm.training import suite
from embbert_tvm.training import wide as wide_module
from embbert_tvm.training.candidates import Candidate, Cost, Limits, best_within, median_text, smallest_near_best
from embbert_tvm.training.evaluate import Texts, evaluate, read_any_folder
from embbert_tvm.training.finetune import TrainingCallbacks
from embbert_tvm.training.job import Job, run_job
from embbert_tvm.training.recipe import Recipe
from embbert_tvm.training.record import read_record
from embbert_tvm.training.task_teacher import open_teacher
from embbert_tvm.training.taught import answers_of_teachers
from embbert_tvm.training.wide import OWN_WEIGHTS, WEIGHTS, fit_wide, mean_loss

pytestmark = pytest.mark.usefixtures("quick")
ONE = Recipe(epochs=1, batch_size=16)
NGRAMS, MODEL, BOTH = "ngrams", "EmbBERT", "EmbBERT + ngrams"


def cost_of(folder, example):
    """Bytes by what lies in a folder; the n-grams alone are small and quick."""
    wide = (folder / "wide").is_dir()
    alone = not (folder / "model.onnx").is_file() and not (folder / "tokenizer.json").is_file()
    return Cost(60_000, 9_000, 0.02) if alone else Cost(180_000 if wide else 120_000, 500_000, 1.0)


@pytest.fixture
def trained(tsv, tmp_path, monkeypatch):
    """Train for an epoch, from which a tiny model learns less than the n-grams do; gives the result and the folder."""
    monkeypatch.setattr(job_module, "export_folder", lambda folder: {})

    def call(name="m", measure=cost_of, **options):
        output = tmp_path / name
        notes = []
        job = Job(tsv, output, options.pop("recipe", ONE), **{"preset": "quick", **options})
        result = run_job(job, TrainingCallbacks(on_note=notes.append), measure)
        return result, output, notes

    return call


@pytest.mark.parametrize("sure", [1, 8])
def test_the_weights_are_those_of_least_loss_on_dev(sure):
    """A model that was far surer than right would have had n-grams that are better given too little weight: of two
    kinds of films' reviews dev said 88.8 for 90.1."""
    rng = np.random.default_rng(0)
    expected = rng.integers(0, 3, 200)
    right = np.eye(3, dtype=np.float32)[expected]
    base = (sure * (right + rng.standard_normal((200, 3)))).astype(np.float32)
    of_ngrams = (2 * right + rng.standard_normal((200, 3))).astype(np.float32)
    fit = fit_wide(model_of("abc"), of_ngrams, base, expected)
    losses = {
        (own, w): mean_loss(np.float32(own) * base + np.float32(w) * of_ngrams, expected)
        for own in OWN_WEIGHTS
        for w in WEIGHTS
    }
    assert (fit.own_weight, fit.weight) == min(losses, key=losses.get)
    assert (fit.own_weight == 1) == (sure == 1)
    assert fit.accuracy > max((x.argmax(1) == expected).mean() for x in (base, of_ngrams))
    scaled = model_of("abc").scaled(fit.weight)
    np.testing.assert_array_equal(fit.model.bias, scaled.bias)
    np.testing.assert_allclose(scaled.logits(["x y"]), fit.weight * model_of("abc").logits(["x y"]), rtol=1e-5)


def test_the_head_is_weighed_as_the_sum_takes_it(trained, monkeypatch):
    plain = load_classifier(read_folder(trained("plain", wide=False)[1]))
    monkeypatch.setattr(wide_module, "OWN_WEIGHTS", (0.5,))
    result, output, _ = trained("half")
    assert result.wide_weight is not None
    half = load_classifier(read_folder(output))
    torch.testing.assert_close(half.head.weight, 0.5 * plain.head.weight)
    torch.testing.assert_close(half.head.bias, 0.5 * plain.head.bias)
    torch.testing.assert_close(half.embedder.token.weight, plain.embedder.token.weight)


def test_ngrams_are_added_where_dev_gains_and_evaluate_reads_them(trained, tsv, tmp_path):
    result, output, _ = trained()
    by_name = {x.name: x for x in result.candidates}
    assert list(by_name) == [NGRAMS, MODEL, BOTH]
    assert by_name[BOTH].accuracy > by_name[MODEL].accuracy  # an epoch of a tiny model
    assert result.kept == by_name[BOTH]
    assert result.accuracy == by_name[BOTH].accuracy
    wide = load_ngram_model(output / "wide")
    assert read_record(output).wide_weight == result.wide_weight in WEIGHTS
    np.testing.assert_array_equal(wide.table, result.baseline.model.table)
    np.testing.assert_allclose(wide.bias, result.wide_weight * result.baseline.model.bias, rtol=1e-6)
    folder = read_folder(output)
    text = Example("on", "turn the fan on")
    texts = Texts.of(folder, [text])
    np.testing.assert_array_equal(texts.together(np.zeros((1, 2), np.float32)), wide.logits([text.text]))
    assert "are added to its own" in (output / "README.md").read_text()
    teacher = open_teacher(output)
    without = open_teacher(trained("plain", wide=False)[1])
    own = (
        load_classifier(folder).head.weight.detach()[0, 0]
        / load_classifier(read_folder(tmp_path / "plain")).head.weight.detach()[0, 0]
    )
    gained = (teacher.answers([text]) - float(own) * without.answers([text]))[:, :2]
    np.testing.assert_allclose(gained, wide.logits([text.text]), atol=1e-5)
    assert teacher.fingerprint() != without.fingerprint()
    shown = compared(result)
    assert [line.split()[0] for line in shown.splitlines()[1:4]] == [NGRAMS, MODEL, "*"]
    assert "180,000       500,000  1.00" in shown
    again, output, _ = trained("without", wide=False)
    assert not (output / "wide").exists()
    assert [x.name for x in again.candidates] == [NGRAMS, MODEL]
    assert again.kept.accuracy == by_name[MODEL].accuracy


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        (Limits(size=1_000_000), BOTH),
        (Limits(size=130_000), NGRAMS),
        (Limits(time=0.5), NGRAMS),
        (Limits(size=60_000, time=0.02), NGRAMS),
    ],
)
def test_limits_choose(trained, limits, kept):
    result, output, _ = trained(limits=limits)
    best = max(x.accuracy for x in result.candidates)
    if kept == BOTH and result.candidates[0].accuracy == best:
        kept = NGRAMS  # the first of equals is the smaller
    assert result.kept.name == kept
    assert isinstance(read_any_folder(output), NgramFolder) == (kept == NGRAMS)
    if kept == NGRAMS:
        assert {x.name for x in output.iterdir()} == {
            "README.md", "config.json", "model.safetensors", "texts-read.xz", "training.json",
        }  # fmt: skip
        assert read_any_folder(output).labels == ("off", "on")


def test_nothing_within_the_limits_leaves_nothing(trained, tmp_path):
    with pytest.raises(WorkError, match="nothing that was tried is within the limits: ngrams 60,000 bytes"):
        trained(limits=Limits(size=50_000))
    assert not (tmp_path / "m").exists()


def test_costs_that_are_not_known_allow_nothing_and_are_told(trained):
    def fails(folder, example):
        raise InputError("no compiler here")

    with pytest.raises(WorkError, match="not measured"):
        trained(measure=fails, limits=Limits(size=10**9))
    result, _, notes = trained("n", measure=fails)
    assert [x.cost for x in result.candidates] == [None] * 3
    assert any("the cost of n is not known: no compiler here" in note for note in notes)


def test_the_smallest_within_a_point_is_pointed_out():
    small, large = Candidate("s", 0.95, Cost(10, None, None)), Candidate("l", 0.96, Cost(100, None, None))
    assert smallest_near_best([large, small]) == small
    worse = dataclasses.replace(small, accuracy=0.949)
    assert smallest_near_best([large, worse]) == large
    assert smallest_near_best([Candidate("x", 0.5)]) is None
    assert best_within([small, large], Limits(size=50)) == small
    with pytest.raises(WorkError):
        best_within([small, large], Limits(time=5))  # whose time is not known
    assert median_text([Example("a", "xxx"), Example("a", "x"), Example("a", "xx")]).text == "xx"


def test_ngrams_as_a_preset(trained, tsv, tmp_path):
    result, output, _ = trained(preset="ngrams")
    assert result.history == []
    assert result.kept.name == NGRAMS
    found = evaluate(read_any_folder(output), tsv)
    assert found.value > 0.8
    assert found.seen > 0
    assert found.truncated == 0
    record = read_record(output)
    assert (record.baseline["accuracy"], record.wide_weight) == (result.accuracy, None)
    with pytest.raises(InputError, match="leave out --base"):
        trained("x", preset="ngrams", lora=2)
    with pytest.raises(InputError, match="linear model of n-grams has neither"):
        trained("x", preset=None, base=output)
    data = _data(tmp_path)
    (figure,) = suite.measure([suite.Run(read_any_folder(output), record, _task(record.task))], data)
    assert figure.value == pytest.approx(evaluate(read_any_folder(output), data / "set" / "test.tsv").value)
    assert figure.examples == 2


def _task(name):
    from embbert_tvm.data.tasks import find_tasks

    (task,) = find_tasks("snips")
    return dataclasses.replace(task, name=name, metrics=("accuracy",), labels=("off", "on"))


def _data(tmp_path):
    folder = tmp_path / "data" / "set"
    folder.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        (folder / f"{split}.tsv").write_text("label\ttext\non\tnobody has heard of this\noff\tnor of that off\n")
    return folder.parent


def test_a_budget_tries_other_recipes_and_keeps_the_best(trained, monkeypatch):
    clock = iter(range(0, 100_000, 10))
    monkeypatch.setattr(search_module.time, "monotonic", lambda: next(clock))
    result, output, notes = trained(budget=100.0, recipe=Recipe(epochs=2, batch_size=16))
    assert len(result.recipes) > 1
    values = {value for _, value in result.recipes}
    assert dict(result.recipes)[result.recipe] == max(values)
    assert read_record(output).recipe["lr"] == result.recipe.lr
    assert [x["value"] for x in read_record(output).tried] == [value for _, value in result.recipes]
    assert len([note for note in notes if note.startswith("recipe ")]) == len(result.recipes) - 1
    assert "*" in recipes(result)
    assert [x.name for x in output.parent.iterdir() if "training" in x.name] == []


def test_a_budget_that_is_spent_tries_one(trained):
    result, _, _ = trained(budget=1e-9)
    assert len(result.recipes) == 1


class Teacher:
    labels = ("on", "off")

    def __init__(self, right):
        self._right = right

    def answers(self, examples):
        return np.array([[x.label == "on", x.label == "off", 0] for x in examples], np.float32) * (
            1 if self._right else -1
        )

    def fingerprint(self):
        return f"{self._right}"


def test_a_teacher_that_is_worse_than_the_linear_model_does_not_teach(tsv, tmp_path, monkeypatch):
    from embbert_tvm.training import taught
    from embbert_tvm.training.sets import read_sets

    monkeypatch.setattr(taught, "open_teacher", lambda path: Teacher(path.name == "right"))
    job = Job(tsv, tmp_path / "m", ONE, teachers=(tmp_path / "wrong",))
    sets = read_sets(job)
    baseline = dataclasses.make_dataclass("Fit", ["dev_accuracy"])(0.9)
    notes = []
    assert answers_of_teachers(job, sets, sets.train, baseline, TrainingCallbacks(on_note=notes.append)) is None
    assert "wrong has 0.00 % on dev, less than the linear model, so it does not teach" in notes[0]
    job = dataclasses.replace(job, teachers=(tmp_path / "wrong", tmp_path / "right"))
    found = answers_of_teachers(job, sets, sets.train, baseline, TrainingCallbacks(on_note=notes.append))
    wanted = Teacher(True).answers(sets.train)[:, [1, 0]]
    np.testing.assert_array_equal(found.logits, wanted)
