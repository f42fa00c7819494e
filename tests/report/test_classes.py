"""Precision, recall and confused pairs."""

import numpy as np

from embbert_tvm.data.classes import ClassFigures, Confusion, class_figures, confusions
from embbert_tvm.report.classes import text

LABELS = ["a", "b", "c", "d"]
EXPECTED = np.array([0, 0, 0, 1, 1, 2, 4, 4])
PREDICTED = np.array([0, 1, 1, 1, 0, 1, 0, 0])


def test_figures_of_classes():
    found = class_figures(EXPECTED, PREDICTED, LABELS)
    assert found == [
        ClassFigures("a", 1 / 4, 1 / 3, 3),
        ClassFigures("b", 1 / 4, 1 / 2, 2),
        ClassFigures("c", None, 0.0, 1),
        ClassFigures("d", None, None, 0),
    ]
    assert (found[1].f1, found[2].f1) == (1 / 3, 0)


def test_what_is_confused():
    found = confusions(EXPECTED, PREDICTED, LABELS)
    assert found[:2] == [Confusion("a", "b", 2), Confusion("(another)", "a", 2)]
    assert sum(x.count for x in found) == 6
    assert confusions(EXPECTED, PREDICTED, LABELS, most=1) == found[:1]
    assert confusions(EXPECTED, EXPECTED, LABELS) == []


def test_the_worst_of_many_are_shown():
    labels = [f"class{i:02}" for i in range(40)]
    expected = np.arange(40).repeat(2)
    predicted = expected.copy()
    predicted[-1] = 0
    shown = text(class_figures(expected, predicted, labels), confusions(expected, predicted, labels))
    assert "the worst 20 of 40" in shown
    assert next(line.split()[1:] for line in shown.splitlines() if line.startswith("class39 ")) == [
        "100.0",
        "%",
        "50.0",
        "%",
        "2",
    ]
    assert "class38" not in shown
    assert shown.endswith("class39  class00            1")
    few = text(class_figures(EXPECTED, PREDICTED, LABELS), [])
    assert [line.split()[0] for line in few.splitlines()] == ["class", "a", "b", "c"]
