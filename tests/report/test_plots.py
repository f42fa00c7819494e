"""Plots: pictures of what a command found, the same bytes for the same figures; refused before the work."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET

import pytest
import small

from embbert_tvm.data.dataset import Example
from embbert_tvm.data.predictions import Prediction
from embbert_tvm.device.profile import Layer, LengthProfile, Profile
from embbert_tvm.errors import InputError
from embbert_tvm.report import plots
from embbert_tvm.report.training import curves


def texts_of(svg) -> str:
    """What stands in an SVG's comments, where matplotlib says what its glyphs spell."""
    ET.fromstring(svg)
    return svg.decode()


def test_answers_are_drawn_the_same_again(tmp_path):
    said = [("on", "on", 0.9), ("off", "on", 0.6), ("off", "off", 0.95)]
    found = [Prediction(Example(label, "x"), predicted, share) for label, predicted, share in said]
    for path in (tmp_path / "a.svg", tmp_path / "b.svg", tmp_path / "c.PNG"):
        plots.answers(path, found)
    first, second, third = ((tmp_path / name).read_bytes() for name in ("a.svg", "b.svg", "c.PNG"))
    assert first == second
    assert all(f"<!-- {word} -->" in texts_of(first) for word in ("on", "off", "predicted", "probability"))
    assert third.startswith(b"\x89PNG")
    plots.answers(tmp_path / "d.svg", [Prediction(Example("1.5", "x"), "1.25", None)])
    assert "<!-- expected -->" in texts_of((tmp_path / "d.svg").read_bytes())


def test_a_profile_is_drawn_by_layer(tmp_path):
    layers = [Layer("embedding", "a", 10, None, 1, 0.1), Layer("block", "b", 90_000, None, 1, 0.9)]
    lengths = tuple(LengthProfile(n, 90_010, None, 2, tuple(layers)) for n in (8, 32))
    plots.profile(tmp_path / "p.svg", Profile("qemu", lengths, None))
    text = texts_of((tmp_path / "p.svg").read_bytes())
    assert "<!-- block -->" in text
    assert "<!-- embedding -->" not in text  # too little to see
    assert "<!-- million instructions -->" in text


def test_a_search_is_drawn(tmp_path):
    plots.search(tmp_path / "s.svg", [(0, 9e6), (8, 7e6), (16, 7e6)], "cycles")
    assert "<!-- million cycles of an inference -->" in texts_of((tmp_path / "s.svg").read_bytes())


def test_a_training_is_drawn_with_the_epoch_that_is_kept(tmp_path):
    curves = {"loss on train": [0.9, 0.5], "loss on dev": [0.8, 0.9], "mcc on dev": [0.7, 0.6]}
    plots.training(tmp_path / "t.svg", curves, 1)
    text = texts_of((tmp_path / "t.svg").read_bytes())
    assert all(f"<!-- {words} -->" in text for words in ("loss on train", "mcc on dev", "kept: epoch 1, 0.7000"))
    with pytest.raises(InputError, match="no epochs to draw"):
        plots.training(tmp_path / "t.svg", {key: [] for key in curves}, 0)


def test_curves_are_lines_of_text():
    lines = curves({"loss": [0.9, 0.55, 0.2], "mcc on dev": [0.5, float("nan"), 0.75]}).splitlines()
    assert lines == ["loss        █▅▁  0.9000 to 0.2000", "mcc on dev  ▁ █  0.5000 to 0.7500"]
    assert "▁" * 60 in curves({"level": [1.0] * 500})


@pytest.mark.parametrize("command", ["validate", "evaluate", "profile"])
def test_a_plot_is_refused_before_the_work(cli, tmp_path, command, monkeypatch):
    data = [] if command == "profile" else ["--data", tmp_path / "none.tsv"]
    result = cli(command, tmp_path / "none", *data, "--plot", tmp_path / "x.gif")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "ends in .png or .svg" in result.err

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pip install 'embbert-tvm\[plot\]'"):
        plots.check(tmp_path / "x.svg")


def test_validate_draws(cli, tmp_path):
    data = tmp_path / "test.tsv"
    data.write_text("label\ttext\n" + "".join(f"{small.LABELS[1]}\t{text}\n" for text in small.TEXTS))
    result = cli("validate", small.package("int8", "host"), "--data", data, "--plot", tmp_path / "a.svg")
    assert result.status == 0
    assert "<!-- probability -->" in texts_of((tmp_path / "a.svg").read_bytes())
