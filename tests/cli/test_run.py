"""embbert-tvm run."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import toy

from embbert_tvm.data.tokenizer import load_tokenizer, tokenize


def expected(package, text):
    ids = tokenize(load_tokenizer(package / "parameters/tokenizer.json"), text, max_length=toy.MAX_LENGTH).ids
    logits = toy.logits(ids).astype(float)
    scores = np.exp(logits) / np.exp(logits).sum()
    return len(ids), dict(zip(toy.LABELS, scores, strict=True))


@pytest.mark.parametrize("place", ["host", "qemu"])
def test_json(cli, toy_package, place):
    result = cli("run", toy_package, "--on", place, "--json", *toy.TEXTS)
    assert (result.status, result.err) == (0, "")
    assert result.json["on"] == place
    for text, entry in zip(toy.TEXTS, result.json["results"], strict=True):
        tokens, scores = expected(toy_package, text)
        assert (entry["text"], entry["tokens"]) == (text, tokens)
        assert entry["scores"] == pytest.approx(scores)
        assert entry["label"] == max(scores, key=scores.get)
        assert (entry["instructions"] is None) == (place == "host")
        assert place == "host" or 0 < entry["instructions"] < 10_000
        assert math.isclose(sum(entry["scores"].values()), 1)


def test_table(cli, toy_package):
    result = cli("run", toy_package, "--on", "qemu", "play", "a text\nof two lines")
    head, *rows = result.out.splitlines()
    assert head.split() == ["text", "label", "score", "tokens", "instructions"]
    assert [row.split("  ")[0] for row in rows] == ["play", "a text of two lines"]
    assert len({len(row) for row in rows}) == 1


def test_regression_gives_a_value(cli, tmp_path):
    one_output = toy.MODEL.replace('{"lights", "music", "weather"}', "{NULL}")
    package = toy.complete(toy.write_package(tmp_path / "p", model=one_output, labels=None, classes=1))
    header = package / "codegen/host/include/embbert.h"
    header.write_text(header.read_text().replace("EMBBERT_CLASSES 3", "EMBBERT_CLASSES 1"))
    (package / "reference.json").write_text('{"vectors": []}')
    (entry,) = cli("run", package, "--json", "play").json["results"]
    assert entry["label"] is entry["scores"] is None
    ids = tokenize(load_tokenizer(package / "parameters/tokenizer.json"), "play").ids
    assert entry["value"] == toy.logits(ids)[0]
    assert f"{entry['value']:.4f}" in cli("run", package, "play").out


def test_classes_without_names_are_numbered(cli, tmp_path):
    package = toy.complete(toy.write_package(tmp_path / "p", labels=None))
    (entry,) = cli("run", package, "--json", "play").json["results"]
    ids = tokenize(load_tokenizer(package / "parameters/tokenizer.json"), "play").ids
    assert entry["label"] == str(toy.logits(ids).argmax())
    assert list(entry["scores"]) == ["0", "1", "2"]
    assert "value" not in cli("run", package, "play").out


def test_a_text_that_is_cut_is_reported(cli, toy_package):
    result = cli("run", toy_package, "--json", "lights " * 40)
    assert result.json["results"][0]["tokens"] == toy.MAX_LENGTH
    assert "cut to 16 tokens" in result.err
    assert result.err.count("\n") == 1


def test_an_empty_text_is_a_text(cli, toy_package):
    assert cli("run", toy_package, "--json", "").json["results"][0]["tokens"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--on", "moon", "x"], "unknown place 'moon'"),
        (["caf\udce9"], "not valid UTF-8"),
        ([], "Missing argument"),
    ],
)
def test_bad_input(cli, toy_package, monkeypatch, arguments, message):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    result = cli("run", toy_package, *arguments)
    assert (result.status, result.out) == (2, "")
    assert message in result.err
    assert "Traceback" not in result.err


def test_a_tokenizer_of_another_vocabulary(cli, tmp_path):
    package = toy.complete(toy.write_package(tmp_path / "p", vocabulary=999))
    result = cli("run", package, "x")
    assert result.status == 2
    assert "holds 1000 tokens, the model has 999" in result.err


def test_no_package(cli, tmp_path):
    result = cli("run", tmp_path, "x")
    assert result.status == 2
    assert result.err == (
        f"embbert-tvm: {tmp_path}: is not a compiled package (no metadata.json): make one with `embbert-tvm compile`\n"
    )


def test_texts_of_a_file_and_of_standard_input(cli, toy_package, tmp_path, tsv, monkeypatch):
    wanted = [entry["label"] for entry in cli("run", toy_package, "--json", *toy.TEXTS).json["results"]]
    (tmp_path / "texts.txt").write_text("\n".join([*toy.TEXTS, "", ""]))
    for path in (tmp_path / "texts.txt", tsv):
        found = cli("run", toy_package, "--json", "--file", path).json["results"]
        assert [(x["text"], x["label"]) for x in found] == list(zip(toy.TEXTS, wanted, strict=True))
    (both, *_) = cli("run", toy_package, "play", "--json", "--file", tsv).json["results"]
    assert both["text"] == "play"

    for content in (b"play\r\nsome music\n", b"label\ttext\nmusic\tplay\nmusic\tsome music\n"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        found = cli("run", toy_package, "--json").json["results"]
        assert [x["text"] for x in found] == ["play", "some music"]


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "standard input: holds no text"), (b"\xff", "standard input, line 1")]
)
def test_standard_input_without_text_is_refused(cli, toy_package, monkeypatch, content, said):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    result = cli("run", toy_package)
    assert result.status == 2
    assert said in result.err
