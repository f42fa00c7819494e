"""Choosing one option for every operator under budgets: a multiple-choice knapsack, solved exactly.

Time, flash and error of a choice are the sums of its options'. A dynamic program keeps, operator after operator, every
choice that no other beats in all three; so what is best for any budgets is among those it ends with.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Option:
    """time: of the operator, in any unit; flash: bytes; error: what it adds to the squared error of the logits."""

    name: str
    time: float
    flash: int
    error: float


@dataclass(frozen=True)
class PlanCandidate:
    """One option's name for each operator, and the sums."""

    options: tuple[str, ...]
    time: float
    flash: int
    error: float


# Errors are rounded up to this part of the largest that is looked at: sums are never told too low, and by no more than
# this for each operator too high. Where times count as well, three sums make many more choices, and errors are coarser.
RESOLUTION, TIMED_RESOLUTION = 1 / 65536, 1 / 1024


def frontier(
    operators: Sequence[Sequence[Option]],
    flash: int | None = None,
    error: float | None = None,
    timed: bool = True,
) -> list[PlanCandidate]:
    """Every choice within the budgets that no other choice beats or equals in time, flash and error, fastest first.

    Empty where nothing fits. error: the largest sum that is looked at; None for any. timed: whether time counts;
    otherwise it is only what one of two choices of the same flash and error is taken by.
    """
    resolution = TIMED_RESOLUTION if timed else RESOLUTION
    unit = (error or sum(max(o.error for o in options) for options in operators)) * resolution or 1.0
    limit = None if error is None else 1 / resolution if error else 0
    least_flash = [min(o.flash for o in options) for options in operators]
    least_error = [min(_up(o.error, unit) for o in options) for options in operators]
    states: list[tuple[Any, ...]] = [(0.0, 0, 0, None)]
    for n, options in enumerate(operators):
        # What the operators still to come take at least.
        rest_flash, rest_error = sum(least_flash[n + 1 :]), sum(least_error[n + 1 :])
        grown = []
        for state in states:
            for option in options:
                used, lost = state[1] + option.flash, state[2] + _up(option.error, unit)
                if flash is not None and used + rest_flash > flash:
                    continue
                if limit is not None and lost + rest_error > limit:
                    continue
                grown.append((state[0] + option.time, used, lost, (state[3], option)))
        states = _undominated(grown) if timed else _smaller(grown)
    return sorted((_choice(state) for state in states), key=lambda c: (c.time, c.flash, c.error))


def _up(error: float, unit: float) -> int:
    return -int(-error // unit)


def _smaller(states: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Those that no other beats in flash and error."""
    kept: list[tuple[Any, ...]] = []
    for state in sorted(states, key=lambda s: (s[2], s[1], s[0])):
        if not kept or state[1] < kept[-1][1]:
            kept.append(state)
    return kept


def _undominated(states: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    kept = []
    # Of the states so far: flash ascending, error descending.
    flashes: list[int] = []
    errors: list[int] = []
    for state in sorted(states, key=lambda s: s[:3]):
        _, flash, error, _ = state
        at = bisect_right(flashes, flash)
        if at and errors[at - 1] <= error:
            continue
        kept.append(state)
        beaten = at
        while beaten < len(errors) and errors[beaten] >= error:
            beaten += 1
        start = at - 1 if at and flashes[at - 1] == flash else at
        flashes[start:beaten], errors[start:beaten] = [flash], [error]
    return kept


def _choice(state: tuple[Any, ...]) -> PlanCandidate:
    taken, link = [], state[3]
    while link is not None:
        link, option = link
        taken.append(option)
    taken.reverse()
    return PlanCandidate(tuple(o.name for o in taken), state[0], state[1], sum(o.error for o in taken))
