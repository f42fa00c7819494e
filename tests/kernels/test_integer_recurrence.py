"""LSTM and GRU in integers: the kernel against numpy's int64, and against the recurrence in float."""

from __future__ import annotations

import numpy as np
import pytest
from running import Kernel, extreme_int8, multiply_high, saturate

from embbert_tvm.kernels.integer_recurrence import IntegerRecurrence, integer_recurrence, tables

FORMS = [("lstm", False, True), ("lstm", True, True), ("gru", False, True), ("gru", True, False)]
SIGMOID, TANH = (table.astype(np.int64) for table in tables())


def look(table: np.ndarray, x: np.ndarray) -> np.ndarray:
    at, part = (x + 2**15) >> 8, (x + 2**15) & 255
    return table[at] + (((table[at + 1] - table[at]) * part + 128) >> 8)


def clamp16(x: np.ndarray) -> np.ndarray:
    return np.clip(x, -(2**15), 2**15 - 1)


def states(spec: IntegerRecurrence, given, weight, bias, factor, given_factor, state_factor) -> np.ndarray:
    """The kernel in int64, and a check that no product or sum leaves int32."""
    width = spec.width
    h, kept, out = np.zeros(width, np.int64), np.zeros(width, np.int64), np.zeros((len(given), width), np.int8)
    for t in range(len(given))[:: -1 if spec.backward else 1]:
        brought = multiply_high(given[t].astype(np.int64) << 14, given_factor)

        def gate(g: int, row: np.ndarray) -> np.ndarray:
            part = slice(g * width, (g + 1) * width)
            acc = (weight[part].astype(np.int64) @ row + bias[part]) << spec.bits
            assert np.abs(acc).max() < 2**31
            return multiply_high(acc, factor[part])

        given_to = [brought[g * width : (g + 1) * width] for g in range(spec.gates)]
        first, second = (look(SIGMOID, clamp16(gate(g, h) + given_to[g])) for g in (0, 1))
        if spec.kind == "lstm":
            forgotten = look(SIGMOID, clamp16(gate(2, h) + given_to[2]))
            new = look(TANH, clamp16(gate(3, h) + given_to[3]))
            kept = clamp16((forgotten * kept + ((first * new) >> 3) + 2**14) >> 15)
            large = second * look(TANH, kept)
        else:
            if spec.reset_after:
                inner = (second * clamp16(gate(2, h)) + 2**14) >> 15
            else:
                row = saturate(multiply_high(((second * kept + 2**14) >> 15) << 15, state_factor))
                inner = gate(2, row.astype(np.int64))
            new = look(TANH, clamp16(inner + given_to[2]))
            kept = (first * kept + (2**15 - first) * new + 2**14) >> 15
            large = kept << 15
        assert np.abs(large).max() < 2**31
        out[t] = saturate(multiply_high(large, state_factor))
        h = out[t].astype(np.int64)
    return out


@pytest.mark.parametrize(("kind", "backward", "reset_after"), FORMS)
@pytest.mark.parametrize(("width", "length"), [(1, 1), (7, 9), (32, 40)])
def test_the_kernel(kind, backward, reset_after, width, length):
    rng = np.random.default_rng([width, length])
    spec = IntegerRecurrence(kind, width, 9, backward, reset_after)
    rows = spec.gates * width
    given = rng.integers(-(2**15), 2**15, (length, rows)).astype(np.int16)
    weight, bias = extreme_int8(rng, rows, width), rng.integers(-9000, 9000, rows).astype(np.int32)
    factor = rng.integers(2**26, 2**30, rows).astype(np.int32)
    vectors = bias, factor, np.array([2**18], np.int32), np.array([508], np.int32)
    matrices = [np.ascontiguousarray(weight[a * width : b * width]) for a, b in spec.matrices]
    args = [given, *matrices, *vectors[:3], *tables(), vectors[3]]
    found = Kernel(integer_recurrence(spec))(*args, out=((length, width), "int8"), length=length)
    np.testing.assert_array_equal(found, states(spec, given, weight, *vectors))
    assert len(np.unique(found)) > min(width, 8) / 2


def test_the_tables_are_the_functions_between_their_entries():
    x = np.arange(-(2**15), 2**15)
    real = x / 2.0**12
    for table, function in ((SIGMOID, lambda v: 1 / (1 + np.exp(-v))), (TANH, np.tanh)):
        assert np.abs(look(table, x) / 2.0**15 - function(real)).max() < 2.0**-11


def test_a_state_that_hardly_changes_is_not_stuck():
    """A GRU whose update gate is nearly open moves by less than a step of int8 a token, and arrives."""
    spec = IntegerRecurrence("gru", 1, 9)
    given = np.tile(np.array([[5.0, 0.0, 1.0]]) * 2.0**12, (2000, 1)).astype(np.int16)
    zero, factor = np.zeros((3, 1), np.int8), np.full(3, 2**20, np.int32)
    args = [
        given,
        zero,
        np.zeros(3, np.int32),
        factor,
        np.array([2**18], np.int32),
        *tables(),
        np.array([508], np.int32),
    ]
    found = Kernel(integer_recurrence(spec))(*args, out=((2000, 1), "int8"), length=2000)
    assert abs(int(found[-1, 0]) - 127 * np.tanh(1.0)) <= 1
