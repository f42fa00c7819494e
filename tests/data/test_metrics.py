"""The metrics against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embbert_tvm.data.metrics import accuracy, macro_f1, mcc, pearson, positive_f1, spearman

CLASSES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("metric", "expected", "predicted", "value"),
    [
        (accuracy, [0, 1, 2, 2], [0, 1, 2, 0], 0.75),
        (mcc, [0, 0, 1, 1], [0, 0, 1, 1], 1.0),
        (mcc, [0, 0, 1, 1], [1, 1, 0, 0], -1.0),
        (mcc, [0, 0, 1, 1], [1, 1, 1, 1], 0.0),
        (mcc, [1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 1], (3 * 1 - 1 * 1) / np.sqrt(4 * 4 * 2 * 2)),
        (macro_f1, [0, 0, 1, 1], [0, 1, 1, 1], (2 / 3 + 4 / 5) / 2),
        (spearman, [1.0, 2.0, 3.0], [10.0, 20.0, 25.0], 1.0),
        (spearman, [1.0, 2.0, 3.0], [3.0, 2.0, 1.0], -1.0),
        (spearman, [1.0, 1.0, 2.0], [1.0, 2.0, 3.0], np.sqrt(3) / 2),
        (spearman, [1.0, 2.0], [5.0, 5.0], 0.0),
        (positive_f1, [0, 1, 1, 1], [1, 1, 1, 0], 2 / 3),
        (positive_f1, [0, 0], [0, 0], 0.0),
        (pearson, [1.0, 2.0, 3.0], [10.0, 20.0, 30.0], 1.0),
        (pearson, [1.0, 2.0, 3.0], [1.0, 4.0, 9.0], 8 / np.sqrt(2 * 98 / 3)),
        (pearson, [0.1, 0.1, 0.1], [1.0, 2.0, 3.0], 0.0),
        # Squares of these are subnormal, or overflow.
        (pearson, [0.0, 1e-160, 3e-160], [0.0, 1e-160, 3e-160], 1.0),
        (pearson, [0.0, 5e-324, 1e-323], [1.0, 0.0, -1.0], -1.0),
        (pearson, [-1e300, 1e300, 3e300], [1.0, 2.0, 3.0], 1.0),
    ],
)
def test_values(metric, expected, predicted, value):
    assert metric(np.array(expected), np.array(predicted)) == pytest.approx(value)


@given(CLASSES, st.permutations(range(4)))
def test_names_of_classes_do_not_matter(pairs, names):
    expected, predicted = np.array(pairs).T
    renamed = np.array(names)
    for metric in (accuracy, mcc, macro_f1):
        assert metric(renamed[expected], renamed[predicted]) == pytest.approx(metric(expected, predicted))
        assert -1 <= metric(expected, predicted) <= 1 + 1e-12


@given(CLASSES)
def test_mcc_is_symmetric(pairs):
    expected, predicted = np.array(pairs).T
    assert mcc(expected, predicted) == pytest.approx(mcc(predicted, expected))


NUMBERS = st.floats(-9, 9) | st.floats(-1e-155, 1e-155) | st.floats(-1e-320, 1e-320)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=30))
def test_correlations_against_numpy(pairs):
    a, b = np.array(pairs).T
    if min(np.ptp(a), np.ptp(b)) > 1e-3:
        assert pearson(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-9)
    for metric in (pearson, spearman):
        assert metric(a, b) == pytest.approx(metric(b, a))
        assert metric(a, -b) == pytest.approx(-metric(a, b), abs=1e-9)
        assert abs(metric(a, b)) <= 1 + 1e-12
