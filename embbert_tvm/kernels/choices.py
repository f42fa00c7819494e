"""How the C of a kernel is written: choices that change its speed and never its bits.

A kernel holds the choices made by hand. What else it could be follows from its statements: each micro-kernel that it
calls has other forms (micro/*.h), and each innermost loop can be unrolled by the C compiler. A schedule makes a choice
by an annotation on the kernel's root block; codegen/c_function.py prints accordingly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tvm import tirx

PREFIX = "embbert.choice."
# Of every innermost loop at once, where loops are the schedule's own.
ALL_LOOPS = "loops"
# Times that the C compiler unrolls an innermost loop; 0 leaves that to it.
UNROLLS = (0, 1, 2, 4, 8)
# A loop that goes around less often is worth no choice.
LEAST_EXTENT = 16


@dataclass(frozen=True)
class Form:
    """A micro-kernel to call in the place of another: its name, and what it takes after the other's arguments. fits: of
    the other's arguments that are no pointers, None for one that is no constant, whether they suit it. features: what
    a cost model is told: whether it loads by LDRD, whether it is a micro-kernel, steps between two branches, sums."""

    name: str
    extra: tuple[int, ...] = ()
    fits: Callable[..., bool] = lambda *scalars: True
    features: tuple[float, ...] = (0, 1, 0, 8)


def _dot(loads: str, steps: int) -> Form:
    def fits(pairs: int | None) -> bool:
        return pairs is not None and pairs % steps == 0

    return Form(f"embbert_dsp_dot_{loads}_{steps}", fits=fits, features=(loads == "ldrd", 1, steps, 8))


def _context(loads: str, steps: int) -> Form:
    def fits(stride: int | None, pairs: int | None) -> bool:
        return stride is not None and stride * steps <= 4096

    return Form(f"embbert_dsp_context_{loads}_{steps}", fits=fits, features=(loads == "ldrd", 1, steps, 8))


def _plain(name: str) -> tuple[Form, ...]:
    tiles = ((4, 2), (4, 1), (2, 2), (2, 1), (1, 2), (1, 1))
    return tuple(Form(name, tile, features=(0, 0, 1, tile[0] * tile[1])) for tile in tiles)


def _columns(count: int) -> Form:
    def fits(pairs: int | None, k: int | None) -> bool:
        return k is not None and k % count == 0

    return Form(f"embbert_mve_product_{count}", fits=fits, features=(0, 1, count / 16, 8))


# By the micro-kernel that a kernel calls: its forms. The first is the one chosen by hand.
FORMS: Mapping[str, tuple[Form, ...]] = {
    "embbert_dsp_dot_4x2": (
        Form("embbert_dsp_dot_4x2"),
        *(_dot(loads, steps) for loads in ("ldrd", "single") for steps in (4, 8, 16, 32)),
        *_plain("embbert_dsp_dot_plain"),
        *(_dot("grouped", steps) for steps in (4, 8, 16, 32)),
    ),
    "embbert_dsp_context_4x2": (
        Form("embbert_dsp_context_4x2"),
        *(_context(loads, steps) for loads in ("ldrd", "single") for steps in (2, 4, 8)),
        *_plain("embbert_dsp_context_plain"),
    ),
    "embbert_mve_product": (Form("embbert_mve_product"), *map(_columns, (32, 64, 128))),
}


@dataclass(frozen=True)
class Choice:
    """Something that can be chosen of a function: its key, the numbers to choose from, the first being what it is by
    hand, and what a cost model is told of each."""

    key: str
    values: tuple[int, ...]
    features: tuple[tuple[float, ...], ...]


def of_call(number: int, name: str, scalars: tuple[int | None, ...]) -> Choice | None:
    """What can be chosen of a function's call of a micro-kernel with these arguments that are no pointers."""
    forms = FORMS.get(name, ())
    values = tuple(i for i, form in enumerate(forms) if i == 0 or form.fits(*scalars))
    return Choice(f"call{number}", values, tuple(forms[i].features for i in values)) if len(values) > 1 else None


def of_loop(number: int) -> Choice:
    return Choice(f"loop{number}", UNROLLS, tuple((0, 0, float(u), 0) for u in UNROLLS))


def chosen(func: tirx.PrimFunc) -> dict[str, int]:
    """The choices that a scheduled function's root block is annotated with, by key."""
    block = getattr(func.body, "block", None)
    annotations = {} if block is None else block.annotations
    return {str(k).removeprefix(PREFIX): int(v) for k, v in annotations.items() if str(k).startswith(PREFIX)}
