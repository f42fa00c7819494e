"""A model of several heads compiled: all outputs in one run, and slots found by the C as Python finds them."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import small

from embbert_tvm.compiler import CompileOptions, compile_model, find_source
from embbert_tvm.data.slots import spans_in_bytes, word_tags, words_of
from embbert_tvm.data.tokenizer import load_tokenizer, tokenize
from embbert_tvm.device.classify import classify
from embbert_tvm.device.package import load_package, load_vectors
from embbert_tvm.device.places import open_place
from embbert_tvm.heads import GREEDY, VITERBI
from embbert_tvm.models.folder import read_folder, write_config
from embbert_tvm.models.reference import Reference
from embbert_tvm.rejection import LOGISTIC, MAHALANOBIS, Direction, Rejection
from embbert_tvm.target import load_cpu
from embbert_tvm.training.whitening import add_known_head, distances, load_features

WIDTH = len(small.LABELS) + len(small.MOODS)


def compiled(folder, out, target="host", **options):
    compile_model(find_source(folder), load_cpu(target), out, CompileOptions(**options))
    return load_package(out)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return compiled(small.folder_of_heads(), tmp_path_factory.mktemp("heads") / "package")


@pytest.fixture(scope="module")
def greedy(tmp_path_factory):
    """The same model with the other rule."""
    import shutil

    folder = shutil.copytree(small.folder_of_heads(), tmp_path_factory.mktemp("greedy") / "model")
    document = json.loads((folder / "config.json").read_text())
    document["heads"][0]["rule"] = GREEDY
    (folder / "config.json").write_text(json.dumps(document))
    return compiled(folder, folder.parent / "package")


def some_texts(count: int) -> list[str]:
    """Texts of words of the small vocabulary, of other letters, and of all kinds of white space."""
    rng = random.Random(3)
    words = [word for text in small.TEXTS for word in text.split()]
    spaces = (" ", "  ", "\t", " \u3000", "\u2003", "\u00a0 ")
    found = [
        "".join(
            rng.choice([*words, "grüß", "naïve,", "7:30", "日本語", "\u0301", "-"]) + rng.choice(spaces)
            for _ in range(rng.randint(1, 9))
        )
        for _ in range(count)
    ]
    return [*found, " turn", "turn ", "x" * 150, "turn off " * 20]


def test_one_run_gives_the_outputs_of_all_heads(package):
    assert [head.name for head in package.more] == ["slots", "mood"]
    assert package.logits_of(7) == WIDTH + 7 * len(small.TAGS)
    reference = Reference(small.folder_of_heads() / "model.onnx")
    with open_place("host", package) as device:
        for vector in load_vectors(package):
            found = device.run(vector.ids).logits
            assert np.array_equal(found, vector.logits)
            parts = package.split(found)
            expected = reference.outputs(list(vector.ids))
            assert [part.shape for part in parts] == [one.shape for one in expected]
            for part, one in zip(parts, expected, strict=True):
                assert np.abs(part - one).max() < 0.2 * max(1, np.abs(one).max())
        sliced = device.slices(vector.ids)
        assert sliced.count > len(package.steps)
        assert np.array_equal(sliced.logits, found)
        checked = device.self_test([5, 6, 7])
        assert (checked.memory_intact, checked.answer_known, checked.guards_intact) == (True, True, True)


def test_logits_of_tags_are_made_where_they_are_given(package):
    """Not in the arena, to be copied at the end."""
    arena = [tensor["name"] for tensor in package.metadata["arena"]["tensors"]]
    made = [output.name for output in package.outputs]
    assert "logits_slots" in made
    assert not [name for name in made if name.startswith("heads_slots")]
    assert not [name for name in arena if name.startswith("logits")]


@pytest.mark.parametrize("rule", [VITERBI, GREEDY])
def test_the_device_finds_the_slots_that_python_finds(rule, package, greedy):
    package = package if rule == VITERBI else greedy
    tokenizer = load_tokenizer(package.tokenizer)
    (tagger,) = (head for head in package.more if head.name == "slots")
    kinds, several = ["time", "place"], 0
    with open_place("host", package) as device:
        for text in some_texts(60):
            tokens = tokenize(tokenizer, text, max_length=package.max_length)
            parts = package.split(device.classify(text).run.logits)
            tags = word_tags(parts[1], words_of(text, tokens), tagger.labels, rule)
            found = device.tag(text)
            assert [(b, e, kinds[k]) for b, e, k in found.slots] == spans_in_bytes(text, tags), text
            assert np.array_equal(found.text.run.logits, parts[0])
            several += any(" " in text.encode()[b:e].decode() for b, e, _ in found.slots)
            assert all(
                not tag.startswith("I") or before != "O" for before, tag in zip(["O", *tags], tags, strict=False)
            )
    assert several  # slots of several words among them


def test_run_says_label_slots_and_the_other_head(package):
    (answer,) = classify(package, ["wake me  at grüß six"], "host")
    assert answer.label in small.LABELS
    assert answer.heads["mood"].label in small.MOODS
    assert sum(answer.heads["mood"].scores.values()) == pytest.approx(1)
    raw = answer.text.encode()
    assert answer.slots
    assert all(raw[slot.begin : slot.end].decode() == slot.text for slot in answer.slots)


def test_a_board_finds_them_too(tmp_path, package):
    board = compiled(small.folder_of_heads(), tmp_path / "m7", "cortex-m7")
    texts = some_texts(4)
    with open_place("qemu", board) as device, open_place("host", package) as host:
        assert device.can_tag
        for text in texts:
            assert device.tag(text).slots == host.tag(text).slots


@pytest.mark.parametrize("score", [MAHALANOBIS, LOGISTIC])
def test_the_c_rejects_by_the_distance_of_what_the_head_reads(tmp_path, score):
    folder = read_folder(small.copy_of_folder(tmp_path / "model"))
    tokenizer = load_tokenizer(folder.tokenizer_path)
    texts = some_texts(40)
    ids = [tokenize(tokenizer, text, max_length=48).ids for text in texts]
    found = distances(load_features(folder, ids), np.arange(len(ids)) % 3, 3)
    written = add_known_head(folder, found.map, ids)
    rows = tuple(map(tuple, np.round(found.map.means / found.step).tolist()))
    direction, along = None, 0.0
    if score == LOGISTIC:
        numbers = np.random.default_rng(0).integers(-127, 128, found.dev_vectors.shape[1])
        direction = Direction(tuple(numbers.tolist()), 0.125)
        along = direction.along(found.dev_vectors)
    threshold = float(np.float32(np.median(along - found.dev.min(1))))
    rejection = Rejection(score, 1.0, threshold, rows, found.step, direction)
    write_config(replace(written, rejection=rejection))
    assert read_folder(folder.path).rejection == rejection
    package, none = compiled(folder.path, tmp_path / "package"), 0
    with open_place("host", package) as device:
        for text in texts:
            if not device.takes(text):
                continue
            said = device.classify(text)
            values = rejection.values(package.split(said.run.logits), package.more)[None]
            if abs(rejection.known(values)[0] - threshold) > 1e-3:
                assert said.label == rejection.labels(values)[0]
            none += said.label == len(small.LABELS)
    assert 0 < none < len(texts)
    assert [x.none for x in classify(package, texts[:8], "host")].count(True) > 0
