"""The C of normalizers that look at more than one character: Replace, Strip, Prepend."""

from __future__ import annotations

import numpy as np

from embbert_tvm.codegen.templates import fill, template
from embbert_tvm.codegen.tokenizer_stages import Stage
from embbert_tvm.codegen.unicode_map import members
from embbert_tvm.data.tokenizer_spec import Prepend, ReplaceRun, ReplaceText, Strip
from embbert_tvm.errors import InputError

_RUN = template("tokenizer_step_run.c.in")

_KEEP = template("tokenizer_step_keep.c.in").rstrip("\n")

_RELEASE = template("tokenizer_step_release.c.in").rstrip("\n")

_TEXT = template("tokenizer_step_text.c.in")

_STRIP = template("tokenizer_step_strip.c.in")

_HOLD = template("tokenizer_step_hold.c.in").rstrip("\n")

_GIVE_HELD = template("tokenizer_step_give_held.c.in").rstrip("\n")

_PREPEND = template("tokenizer_step_prepend.c.in")


def _gives(text: str, following: str, indent: int) -> str:
    """Statements that give on the characters of a text."""
    lines = [f"{following}(t, {ord(c):#x}u);" for c in text]
    return f"\n{' ' * indent}".join(lines) or "(void)t;"


def _held(name: str, count: int) -> list[str]:
    """Fields for characters that are held back."""
    return [f"uint32_t {name}_held[{count}];", f"PLACES({name}_held_places[{count}])"]


def ranges(found: np.ndarray) -> list[tuple[int, int]]:
    """(first, last) of the runs of a set of code points."""
    points = np.flatnonzero(found)
    if not len(points):
        return []
    breaks = np.flatnonzero(np.diff(points) > 1)
    firsts, lasts = points[[0, *(breaks + 1)]], points[[*breaks, len(points) - 1]]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


_MOST_RANGES = 64


def _membership(atom: str) -> str:
    """A C expression in c for a set of code points."""
    found = ranges(members(atom))
    if len(found) > _MOST_RANGES:
        raise InputError(f"the normalizer Replace with {atom!r}, a set of {len(found)} ranges, is not supported")
    tests = [
        f"c == {first:#x}u" if first == last else f"(c >= {first:#x}u && c <= {last:#x}u)" for first, last in found
    ]
    return " ||\n           ".join(tests) or "false"


def step_stage(
    name: str, following: str, step: ReplaceRun | ReplaceText | Strip | Prepend, tells_removed: bool
) -> Stage:
    """A step that looks at more than one character. tells_removed: t->removed is set where it removes a beginning."""
    passed = "begun" if isinstance(step, Strip) else "passed"
    removed = f"t->removed = t->removed || !t->{name}_{passed};" if tells_removed else ""
    values = {"name": name, "next": following}
    values["passed"] = f"t->{name}_passed = true;\n    " if tells_removed else ""
    values["restart"] = f"t->{name}_passed = false;\n    " if tells_removed else ""
    flag = [f"bool {name}_passed;"] if tells_removed else []
    unset = [f"t->{name}_passed = false;"] if tells_removed else []
    if isinstance(step, ReplaceRun):
        values |= {"least": step.least, "members": _membership(step.atom)}
        content = "\n        ".join(filter(None, [removed, _gives(step.content, following, 8)]))
        held = _held(name, step.least)
        return Stage(
            fill(
                _RUN,
                what=f"Runs of {step.least} or more become {_shown(step.content)}.",
                content=content,
                keep=fill(_KEEP, **values) if step.least > 1 else "",
                release=fill(_RELEASE, **values) if step.least > 1 else "",
                **values,
            ),
            [f"uint32_t {name}_n;", f"PLACES({name}_last_place)", *(held if step.least > 1 else []), *flag],
            [f"t->{name}_n = 0;", *unset],
        )
    if isinstance(step, ReplaceText):
        content = "\n        ".join(filter(None, [removed, _gives(step.content, following, 8)]))
        pattern = ", ".join(f"{ord(c):#x}" for c in step.pattern)
        what = f"{_shown(step.pattern)} becomes {_shown(step.content)}."
        return Stage(
            fill(_TEXT, what=what, content=content, size=len(step.pattern), pattern=pattern, **values),
            [f"uint32_t {name}_n;", *_held(name, len(step.pattern)), *flag],
            [f"t->{name}_n = 0;", *unset],
        )
    state = [f"bool {name}_begun;"]
    reset = [f"t->{name}_begun = false;"]
    if isinstance(step, Prepend):
        what = f"{_shown(step.text)} before a text that is not empty."
        return Stage(fill(_PREPEND, what=what, content=_gives(step.text, following, 8), **values), state, reset)
    return Stage(_strip(step, removed, values), [*state, f"held_t {name}_held;"], [*reset, f"t->{name}_held.n = 0;"])


def _strip(step: Strip, removed: str, values: dict) -> str:
    white = fill(_HOLD, begun=f"t->{values['name']}_begun && " if step.left else "", **values)
    if step.left and removed:
        white = removed + "\n        " + white
    last = "" if step.right else fill(_GIVE_HELD, **values)
    where = " or ".join(word for word, on in (("at the beginning", step.left), ("at the end", step.right)) if on)
    return fill(_STRIP, where=where or "is removed", white=white, last=last, **values)


def _shown(text: str) -> str:
    return " ".join(f"U+{ord(c):04X}" for c in text) or "nothing"
