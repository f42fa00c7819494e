"""The search under budgets against the enumeration of every choice."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embbert_tvm.graph.budget_search import RESOLUTION, TIMED_RESOLUTION, Option, frontier

OPTION = st.builds(
    Option, st.just("o"), st.integers(0, 6).map(float), st.integers(-4, 8), st.integers(0, 64).map(float)
)
OPERATORS = st.lists(st.lists(OPTION, min_size=1, max_size=4), min_size=1, max_size=5)


def every(operators):
    for taken in itertools.product(*operators):
        yield sum(o.time for o in taken), sum(o.flash for o in taken), sum(o.error for o in taken)


@settings(max_examples=80, deadline=None)
@given(OPERATORS, st.one_of(st.none(), st.integers(-10, 30)), st.one_of(st.none(), st.integers(0, 200)), st.booleans())
def test_no_choice_within_the_budgets_is_better(operators, flash, error, timed):
    found = frontier(operators, flash, None if error is None else float(error), timed)
    most = sum(max(o.error for o in ops) for ops in operators) if error is None else error
    slack = len(operators) * (TIMED_RESOLUTION if timed else RESOLUTION) * most
    for choice in found:
        assert flash is None or choice.flash <= flash
        assert error is None or choice.error <= error
    within = [c for c in every(operators) if (flash is None or c[1] <= flash) and (error is None or c[2] <= error)]
    strictly = [c for c in within if error is None or c[2] + slack <= error]
    assert bool(found) >= bool(strictly)
    assert bool(found) <= bool(within)
    for time, used, lost in strictly:
        assert any((c.time <= time or not timed) and c.flash <= used and c.error <= lost + slack + 1e-9 for c in found)


def test_the_sums_are_of_the_options_named():
    operators = [[Option("a", 1.0, 10, 0.5), Option("b", 3.0, 4, 0.0)], [Option("c", 2.0, 0, 0.25)]]
    found = frontier(operators)
    assert [(c.options, c.time, c.flash, c.error) for c in found] == [
        (("a", "c"), 3.0, 10, 0.75),
        (("b", "c"), 5.0, 4, 0.25),
    ]


def test_twenty_operators_in_five_precisions():
    operators = [
        [Option(str(k), 1 + k * (n % 3), (4 - k) * 1000 + n, 0.7**k * (n + 1)) for k in range(5)] for n in range(20)
    ]
    found = frontier(operators, 60_000)
    assert found
    assert all(c.flash <= 60_000 for c in found)


@pytest.mark.parametrize("timed", [True, False])
def test_an_error_just_above_the_limit_is_not_rounded_into_it(timed):
    assert frontier([[Option("a", 1.0, 1, 1.0)]], error=1.0, timed=timed)
    assert not frontier([[Option("a", 1.0, 1, 1.0 + 1e-6)]], error=1.0, timed=timed)
    assert not frontier([[Option(name, 1.0, 1, 0.5 + 1e-6)] for name in "ab"], error=1.0, timed=timed)
