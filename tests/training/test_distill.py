"""Learning a task from a teacher."""

import dataclasses
import functools
import json
import math
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from embbert_tvm.cli.distill import command
from embbert_tvm.data.dataset import Example, read_examples
from embbert_tvm.data.leaks import HeldOut, text_key
from embbert_tvm.errors import InputError
from embbert_tvm.training import job as job_module
from embbert_tvm.training import task_teacher, taught
from embbert_tvm.training.batches import UNLABELLED, TokenizedSet
from embbert_tvm.training.finetune import TrainingCallbacks, distillation_loss, finetune
from embbert_tvm.training.job import finetune_job_teachers, run_job
from embbert_tvm.training.recipe import Recipe, TeacherRecipe
from embbert_tvm.training.record import read_record
from embbert_tvm.training.sets import JobSets
from embbert_tvm.training.task_teacher import Answers, cached_answers, is_encoder, open_teacher
from embbert_tvm.training.teacher_goals import LabelGoal
from embbert_tvm.training.tune_teacher import TeacherCallbacks, finetune_teacher

# The teachers here are toys, which the linear model surpasses.
Job = functools.partial(job_module.Job, weak_teachers=True)
QUICK = TeacherRecipe(epochs=4, least_steps=0, lr=5e-3, head_times=1, batch_size=8, frozen=0, warmup_steps=2)


def sets_of(train, dev):
    return JobSets(["off", "on"], train, dev, HeldOut.of(dev), [], {})


@pytest.fixture(scope="module")
def classifier(teacher_folder, tmp_path_factory):
    """The encoder, fine-tuned to say what is turned on and off."""
    examples = [Example(label, f"turn the {x} {label}") for label in ("on", "off") for x in ("fan", "radio", "oven")]
    path = tmp_path_factory.mktemp("fine") / "teacher"
    epochs = []
    sets = sets_of(examples * 6, examples)
    finetune_teacher(
        teacher_folder, LabelGoal(sets), path, dataclasses.replace(QUICK, epochs=24), TeacherCallbacks(epochs.append)
    )
    assert [epoch.number for epoch in epochs] == list(range(1, 25))
    assert max(epoch.dev_metric for epoch in epochs) == 1
    return path


def test_a_teacher_resumes_after_its_last_whole_epoch(teacher_folder, tmp_path):
    """A stop threw all of its fine-tuning away, which takes far longer than the model's."""
    examples = [Example(label, f"turn the {x} {label}") for label in ("on", "off") for x in ("fan", "radio", "oven")]
    sets = sets_of(examples * 3, examples)
    whole, notes = [], []
    finetune_teacher(teacher_folder, LabelGoal(sets), tmp_path / "whole", QUICK, TeacherCallbacks(whole.append))

    class Stop(Exception):
        pass

    def stop(done, total):
        if done > total // 2:
            raise Stop

    with pytest.raises(Stop):
        finetune_teacher(teacher_folder, LabelGoal(sets), tmp_path / "cut", QUICK, TeacherCallbacks(on_step=stop))
    assert not (tmp_path / "cut").exists()
    resumed = []
    progress = TeacherCallbacks(resumed.append, on_note=notes.append)
    finetune_teacher(teacher_folder, LabelGoal(sets), tmp_path / "cut", QUICK, progress)
    assert "resumes after epoch 2" in notes[0]
    assert resumed == whole
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "cut"}


def test_what_is_an_encoder_and_what_a_classifier(teacher_folder, classifier, tmp_path):
    assert is_encoder(teacher_folder)
    assert not is_encoder(classifier)
    assert not is_encoder(tmp_path)
    assert open_teacher(classifier).labels == ("off", "on")
    with pytest.raises(InputError, match="neither a transformers classifier nor a model folder"):
        open_teacher(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="not a classifier that loads"):
        open_teacher(tmp_path)


def test_logits_are_kept(classifier, tmp_path, monkeypatch):
    teacher = open_teacher(classifier)
    texts = [Example("", "turn the fan on"), Example("", "turn the oven off"), Example("", "fan")]
    logits = cached_answers(teacher, texts, tmp_path).logits
    assert logits.argmax(1)[:2].tolist() == [1, 0]
    np.testing.assert_allclose(cached_answers(teacher, texts[::-1], tmp_path).logits[::-1], logits, atol=1e-4)
    monkeypatch.setattr(task_teacher, "folder_answers", None)
    np.testing.assert_array_equal(cached_answers(teacher, texts, tmp_path).logits, logits)


def test_the_loss_is_hintons():
    torch.manual_seed(0)
    logits, teacher = torch.randn(5, 3), torch.randn(5, 3)
    p, q = (torch.softmax(x / 2, dim=1) for x in (teacher, logits))
    expected = (p * (p / q).log()).sum(1).mean() * 4
    torch.testing.assert_close(distillation_loss(logits, teacher, 2.0), expected)
    torch.testing.assert_close(
        distillation_loss(logits[:, :1], teacher[:, :1], 2.0), ((logits - teacher)[:, 0] ** 2).mean()
    )


def test_projected_states_keep_their_distances():
    rng = np.random.default_rng(0)
    states = (rng.standard_normal((50, 4)) @ rng.standard_normal((4, 20))).astype(np.float32)
    answers = Answers(np.zeros((50, 2), np.float32), states)
    projected = answers.projected(8)
    assert projected.shape == (50, 8)
    assert np.abs(projected[:, 4:]).max() < 1e-4
    centred = states - states.mean(0)
    np.testing.assert_allclose(projected @ projected.T, centred @ centred.T, atol=1e-3)
    assert answers.projected(30).shape == (50, 30)


def test_teachers_together_answer_their_mean():
    one, other = np.array([[4.0, 0], [0, 2]], np.float32), np.array([[0, 2.0], [0, 4]], np.float32)
    states = [np.ones((2, 3), np.float32), np.full((2, 5), 2, np.float32)]
    both = Answers.together([Answers(one, states[0]), Answers(other, states[1])])
    assert both.logits.tolist() == [[2, 1], [0, 3]]
    assert both.logits.dtype == np.float32
    assert both.hidden.tolist() == [[1, 1, 1, 2, 2, 2, 2, 2]] * 2


@pytest.mark.parametrize("regression", [False, True])
def test_texts_without_a_label_are_learned_from_the_teacher_alone(quick, tmp_path, regression):
    from embbert_tvm.models.config import PRESETS
    from embbert_tvm.models.registry import build

    torch.manual_seed(0)
    ids = [[2, 5 + i % 2, 9] for i in range(40)]
    sides = np.array([i % 2 for i in range(40)])
    nothing = math.nan if regression else UNLABELLED
    teacher = sides[:, None].astype(np.float32) if regression else np.eye(2, dtype=np.float32)[sides] * 8
    train = TokenizedSet(ids, [nothing] * 40, 0, teacher)
    dev = TokenizedSet(ids[:10], sides[:10].tolist() if not regression else sides[:10].astype(float).tolist(), 0)
    model = build(PRESETS["quick"], 1 if regression else 2)
    recipe = Recipe(epochs=12, batch_size=8, lr=2e-2, token_dropout=0, warmup_steps=2)
    assert finetune(model, train, dev, recipe, tmp_path / "c")[-1].dev_metric > 0.9


@pytest.mark.usefixtures("quick", "without_export")
def test_a_model_of_other_labels_is_no_teacher(classifier, tsv, tmp_path):
    tsv.write_text(tsv.read_text().replace("off\t", "out\t"))
    with pytest.raises(InputError, match="fine-tune it on the same data"):
        run_job(Job(tsv, tmp_path / "m", Recipe(epochs=1), preset="quick", teachers=(classifier,)))
    assert not (tmp_path / "m").exists()


@pytest.mark.usefixtures("quick", "without_export")
def test_distil_from_an_encoder_then_from_the_model_itself(teacher_folder, tsv, tmp_path):
    more = tmp_path / "more.txt"
    more.write_text("Please turn the oven on. Now switch off the kettle.\n")
    output = tmp_path / "small"
    command_line = [
        str(tsv), "--teacher", str(teacher_folder), "--teacher-epochs", "2", "--teacher-lr", "5e-3",
        "--teacher-frozen", "0", "--unlabelled", str(more), "--copies", "1", "--noised", "1",
        "--replaced", "1", "--donors=" + str(more),
        "--preset", "quick", "--epochs", "3",
        "--batch-size", "8", "--lr", "1e-2", "--hidden-weight", "0.5", "--json", "-o", str(output),
    ]  # fmt: skip
    done = CliRunner().invoke(command, command_line, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert read_record(output).unlabelled == [str(more), str(more)]
    assert open_teacher(tmp_path / "small-teacher").labels == ("off", "on")
    assert open_teacher(output).answers([Example("", "fan on"), Example("", "radio")]).shape == (2, 2 + 16)


@pytest.mark.usefixtures("quick", "without_export")
def test_a_teacher_that_is_there_is_used_as_it_is(classifier, tsv, tmp_path):
    notes = []
    recipe = Recipe(epochs=12, lr=1e-2, batch_size=8, warmup_steps=5, teacher_weight=0.5)
    job = Job(tsv, tmp_path / "small", recipe, dev=tsv, preset="quick", teachers=(classifier,))
    result = run_job(job, TrainingCallbacks(on_note=notes.append))
    assert "dev or test hold every text of it" in notes[0]
    assert f"{classifier} labels {len(read_examples(tsv))} texts" in notes
    assert result.value > 0.5


@pytest.mark.usefixtures("quick", "without_export")
def test_what_dev_and_test_hold_is_neither_trained_on_nor_labelled(classifier, tsv, tmp_path, monkeypatch):
    dev, test, more = (tmp_path / name for name in ("dev.tsv", "test.tsv", "more.txt"))
    dev.write_text("label\ttext\non\tTurn the FAN on!\noff\tno more radio.\n")
    test.write_text("label\ttext\non\tturn the oven the radio\noff\tSWITCH on the-kettle, please\n")
    more.write_text("Turn the oven, the radio. Turn the fan on. Switch the oven off now.\n")
    labelled, answer = [], task_teacher.cached_answers
    monkeypatch.setattr(taught, "cached_answers", lambda t, x, c: labelled.extend(y.text for y in x) or answer(t, x, c))
    job = Job(
        tsv, tmp_path / "m", Recipe(epochs=1, batch_size=8), dev=dev, preset="quick", teachers=(classifier,),
        held_out=(test,), unlabelled=(more,), mixed=40, noised=5, replaced=5, auxiliary=(more,),
    )  # fmt: skip
    notes = []
    run_job(job, TrainingCallbacks(on_note=notes.append))
    held = {text_key(x.text) for path in (dev, test) for x in read_examples(path)}
    assert len(labelled) > 500
    assert not {text_key(text) for text in labelled} & held
    record = read_record(tmp_path / "m")
    assert record.train.examples == sum(text_key(x.text) not in held for x in read_examples(tsv))
    assert record.left_out["train"] == len(read_examples(tsv)) - record.train.examples > 0
    assert record.left_out["unlabelled"] == 2
    assert set(record.left_out) == {"train", "unlabelled", "mixed", "noised", "replaced"}
    assert record.left_out["mixed"] > 0
    assert [(x.path, x.examples) for x in record.held_out] == [(str(test), 2)]
    assert f"{record.left_out['train']} texts (train) are left out of training: dev or test hold them" in notes


@pytest.mark.usefixtures("quick", "without_export")
def test_a_teacher_labels_once_for_all_seeds(classifier, tsv, tmp_path):
    more = tmp_path / "more.txt"
    more.write_text("Please turn the oven on. Now switch off the kettle. And the radio goes on.\n")
    for seed in (0, 1):
        recipe = Recipe(epochs=1, batch_size=8, seed=seed)
        given = {"unlabelled": (more,), "most": 2, "mixed": 2, "noised": 2}
        run_job(Job(tsv, tmp_path / str(seed), recipe, dev=tsv, preset="quick", teachers=(classifier,), **given))
    assert len(list((tmp_path / ".teacher-answers").iterdir())) == 1


@pytest.mark.usefixtures("quick", "without_export")
def test_an_encoder_fine_tuned_twice_teaches_with_a_classifier_of_another_order(
    teacher_folder, classifier, tsv, tmp_path
):
    flipped = tmp_path / "flipped"
    shutil.copytree(classifier, flipped)
    weights = load_file(flipped / "model.safetensors")
    for key in ("classifier.weight", "classifier.bias"):
        weights[key] = weights[key].flip(0).contiguous()
    save_file(weights, flipped / "model.safetensors", {"format": "pt"})
    config = json.loads((flipped / "config.json").read_text())
    config |= {"id2label": {"0": "on", "1": "off"}, "label2id": {"on": 0, "off": 1}}
    (flipped / "config.json").write_text(json.dumps(config))
    texts = [Example("", "turn the fan on"), Example("", "turn the radio off")]
    np.testing.assert_allclose(
        open_teacher(flipped).answers(texts)[:, 1::-1], open_teacher(classifier).answers(texts)[:, :2], atol=1e-5
    )

    job = Job(tsv, tmp_path / "small", Recipe(epochs=1, batch_size=8), dev=tsv, preset="quick")
    job = dataclasses.replace(job, teachers=(teacher_folder, flipped))
    job = finetune_job_teachers(job, tmp_path / "kept", QUICK, seeds=2)
    assert job.teachers == (flipped, tmp_path / "kept", tmp_path / "kept-1")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("kept", "kept-1"))
    assert any(not torch.equal(first[key], second[key]) for key in first)
    written = (tmp_path / "kept/model.safetensors").stat().st_mtime_ns
    assert finetune_job_teachers(dataclasses.replace(job, teachers=(teacher_folder,)), tmp_path / "kept", QUICK)
    assert (tmp_path / "kept/model.safetensors").stat().st_mtime_ns == written

    notes = []
    run_job(job, TrainingCallbacks(on_note=notes.append))
    labelling = [note.split(" labels ")[0] for note in notes if " labels " in note]
    assert labelling == [str(path) for path in job.teachers]


def test_seeds_are_for_encoders(classifier, tsv, tmp_path):
    command_line = [str(tsv), "--teacher", str(classifier), "--teacher-seeds", "2", "-o", str(tmp_path / "m")]
    done = CliRunner().invoke(command, command_line)
    assert done.exit_code == 1
    assert "leave out --teacher-seeds" in str(done.exception)


@pytest.mark.parametrize("half", [["--replaced", "2"], ["--auxiliary", "mine.tsv"]])
def test_replaced_spans_need_auxiliary_text_before_an_encoder_is_fine_tuned(teacher_folder, tsv, tmp_path, half):
    command_line = [str(tsv), "--teacher", str(teacher_folder), *half, "-o", str(tmp_path / "m")]
    done = CliRunner().invoke(command, command_line)
    assert isinstance(done.exception, InputError)
    assert "give both, or neither" in str(done.exception)
    assert not (tmp_path / "m-teacher").exists()
