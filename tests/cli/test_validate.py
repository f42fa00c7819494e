"""embbert-tvm validate."""

from __future__ import annotations

import json

import numpy as np
import pytest
import toy

from embbert_tvm.data.tokenizer import encode, load_tokenizer

LABELS = [0, 1, 2, 1, 0, 2]


def expected(package, count):
    tokenizer = load_tokenizer(package / "parameters/tokenizer.json")
    ids = [encode(tokenizer, text, max_length=toy.MAX_LENGTH) for text in toy.TEXTS[:count]]
    compiled = np.array([toy.logits(i).argmax() for i in ids])
    floats = np.array([np.sin(sum(i) * np.arange(1.0, 4.0)).argmax() for i in ids])
    labels = np.array(LABELS[:count])
    return np.mean(floats == labels), np.mean(compiled == labels), np.mean(floats == compiled)


@pytest.mark.parametrize(
    ("place", "limit", "checked"), [("host", 6, 3), ("host", 4, 3), ("qemu", 6, 9), ("qemu", 2, 5)]
)
def test_figures(cli, toy_package, tsv, place, limit, checked):
    result = cli("validate", toy_package, "--data", tsv, "--on", place, "--limit", limit, "--json")
    assert (result.status, result.err) == (0, "")
    accuracy_float, accuracy_compiled, agreement = expected(toy_package, limit)
    assert result.json == {
        "examples": limit,
        "accuracy_float": pytest.approx(accuracy_float),
        "accuracy_compiled": pytest.approx(accuracy_compiled),
        "agreement": pytest.approx(agreement),
        "metric": "accuracy",
        "on": place,
        "bit_exact": {"checked": checked, "equal": checked},
        "tokenizer": {"checked": 0, "equal": 0},
        "stack_bytes": result.json["stack_bytes"],
        "truncated": 0,
        "unknown": {},
        "classes": result.json["classes"],
        "confused": result.json["confused"],
        "tagging": None,
    }
    assert [x["label"] for x in result.json["classes"]] == list(toy.LABELS)
    wrong = sum(x["count"] for x in result.json["confused"])
    assert wrong == round(limit * (1 - accuracy_compiled))
    assert (result.json["stack_bytes"] is None) if place == "host" else (0 < result.json["stack_bytes"] < 1024)


def test_lines(cli, toy_package, tsv):
    result = cli("validate", toy_package, "--data", tsv)
    assert result.status == 0
    assert "6 examples, on host" in result.out
    assert "bit-exact  3 of 3 runs" in result.out
    assert "stack" not in result.out


def test_a_wrong_reference_vector_fails(cli, tmp_path, tsv):
    package = toy.complete(toy.write_package(tmp_path / "p"))
    document = json.loads((package / "reference.json").read_text())
    last = document["vectors"][1]["logits"][2]
    document["vectors"][1]["logits"][2] = f"{int(last, 16) ^ 1:08x}"
    (package / "reference.json").write_text(json.dumps(document))
    result = cli("validate", package, "--data", tsv, "--json")
    assert result.status == 1
    assert result.json["bit_exact"] == {"checked": 3, "equal": 2}
    assert "1 of 3 runs do not give the logits they should: vector 2 of reference.json differs by" in result.err


def differing(tmp_path, precision):
    model = toy.MODEL.replace("- 3.0f;", "- 3.0f;\n#ifdef __arm__\n        logits[c] *= 1.000001f;\n#endif\n")
    return toy.complete(toy.write_package(tmp_path / "p", model=model, precision=precision))


def test_a_device_that_differs_from_the_host_fails(cli, tmp_path, tsv):
    result = cli("validate", differing(tmp_path, "int8"), "--data", tsv, "--on", "qemu", "--json")
    assert result.status == 1
    assert result.json["bit_exact"]["equal"] < result.json["bit_exact"]["checked"] == 9


def test_floating_point_may_differ_within_its_tolerance(cli, tmp_path, tsv):
    result = cli("validate", differing(tmp_path, "fp32"), "--data", tsv, "--on", "qemu", "--json")
    assert result.status == 0
    assert result.json["bit_exact"]["equal"] < 9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("label\ttext\nnone\tx\n", "not one label is the model's"),
        ("text\nx\n", "must be the header"),
        ("", "no examples"),
    ],
)
def test_bad_sets(cli, toy_package, tmp_path, content, message):
    (tmp_path / "bad.tsv").write_text(content)
    result = cli("validate", toy_package, "--data", tmp_path / "bad.tsv")
    assert (result.status, result.out) == (2, "")
    assert message in result.err


def test_answers_are_written_and_unknown_labels_are_wrong_and_said(cli, toy_package, tsv, tmp_path):
    tsv.write_text(tsv.read_text() + "alarm\twake me\nalarm\tat six\n")
    result = cli("validate", toy_package, "--data", tsv, "-o", tmp_path / "answers.tsv", "--json")
    assert result.status == 0
    assert result.err == "the model does not know alarm (2): 2 texts count as wrong\n"
    _, compiled, _ = expected(toy_package, 6)
    assert result.json["accuracy_compiled"] == pytest.approx(compiled * 6 / 8)
    assert result.json["unknown"] == {"alarm": 2}
    head, *rows = [line.split("\t") for line in (tmp_path / "answers.tsv").read_text().splitlines()]
    assert head == ["label", "predicted", "probability", "text"]
    assert [row[3] for row in rows] == [*toy.TEXTS, "wake me", "at six"]
    assert all(row[1] in toy.LABELS and 0 < float(row[2]) <= 1 for row in rows)
    right = sum(row[0] == row[1] for row in rows)
    assert right == round(8 * result.json["accuracy_compiled"])


def test_another_tasks_set_is_refused(cli, toy_package, tmp_path):
    (tmp_path / "other.tsv").write_text("label\ttext\npizza\twith cheese\n")
    result = cli("validate", toy_package, "--data", tmp_path / "other.tsv")
    assert result.status == 2
    assert "not one label is the model's, which knows lights" in result.err
