"""The C of normalizers that look at more than one character: Replace, Strip, Prepend."""

from __future__ import annotations

import numpy as np

from embbert_tvm.codegen.tokenizer_stages import Stage
from embbert_tvm.codegen.unicode_map import members
from embbert_tvm.data.tokenizer_spec import Prepend, ReplaceRun, ReplaceText, Strip
from embbert_tvm.errors import InputError

_RUN = """\
static inline bool {name}_is_member(uint32_t c)
{{
    return {members};
}}

/* The run is over: what it becomes stands where its last character does. */
static void {name}_flush(tokenizer_t *t)
{{
    PLACES(here)
    KEEP_PLACE(here);
    if (t->{name}_n == {least}u) {{
        SET_PLACE(t->{name}_last_place);
        {content}
    }}
    {release}t->{name}_n = 0;
    SET_PLACE(here);
}}

/* {what} */
static void {name}(tokenizer_t *t, uint32_t c)
{{
    if ({name}_is_member(c)) {{
        if (t->{name}_n < {least}u) {{
            {keep}t->{name}_n++;
        }}
        KEEP_PLACE(t->{name}_last_place);
        return;
    }}
    {name}_flush(t);
    {passed}{next}(t, c);
}}

static void {name}_end(tokenizer_t *t)
{{
    {name}_flush(t);
    {restart}{next}_end(t);
}}
"""

_KEEP = """t->{name}_held[t->{name}_n] = c;
            KEEP_PLACE(t->{name}_held_places[t->{name}_n]);
            """

_RELEASE = """for (uint32_t i = 0; t->{name}_n < {least}u && i < t->{name}_n; i++) {{
        SET_PLACE(t->{name}_held_places[i]);
        {next}(t, t->{name}_held[i]);
    }}
    """

_TEXT = """\
static const uint32_t {name}_pattern[{size}] = {{{pattern}}};

/* Give on what is held as long as it is not the pattern's beginning. */
static void {name}_shorten(tokenizer_t *t)
{{
    PLACES(here)
    KEEP_PLACE(here);
    for (;;) {{
        uint32_t i = 0;
        while (i < t->{name}_n && t->{name}_held[i] == {name}_pattern[i]) {{
            i++;
        }}
        if (i == t->{name}_n) {{
            SET_PLACE(here);
            return;
        }}
        SET_PLACE(t->{name}_held_places[0]);
        {passed}{next}(t, t->{name}_held[0]);
        t->{name}_n--;
        for (i = 0; i < t->{name}_n; i++) {{
            t->{name}_held[i] = t->{name}_held[i + 1u];
            SET_PLACE(t->{name}_held_places[i + 1u]);
            KEEP_PLACE(t->{name}_held_places[i]);
        }}
    }}
}}

/* {what} */
static void {name}(tokenizer_t *t, uint32_t c)
{{
    KEEP_PLACE(t->{name}_held_places[t->{name}_n]);
    t->{name}_held[t->{name}_n++] = c;
    {name}_shorten(t);
    if (t->{name}_n == {size}u) {{
        t->{name}_n = 0;
        {content}
    }}
}}

static void {name}_end(tokenizer_t *t)
{{
    for (uint32_t i = 0; i < t->{name}_n; i++) {{
        SET_PLACE(t->{name}_held_places[i]);
        {next}(t, t->{name}_held[i]);
    }}
    t->{name}_n = 0;
    {restart}{next}_end(t);
}}
"""

_STRIP = """\
/* No white space {where}. */
static void {name}(tokenizer_t *t, uint32_t c)
{{
    if (is_white_space(c)) {{
        {white}
        return;
    }}
    t->{name}_begun = true;
    PLACES(here)
    KEEP_PLACE(here);
    while (t->{name}_held.n > 0) {{
        uint32_t white = release(t, &t->{name}_held);
        {next}(t, white);
    }}
    SET_PLACE(here);
    {next}(t, c);
}}

static void {name}_end(tokenizer_t *t)
{{
    {last}t->{name}_held.n = 0;
    t->{name}_begun = false;
    {next}_end(t);
}}
"""

_HOLD = """if ({begun}!hold(t, &t->{name}_held, c)) {{
            t->end = TOKENIZER_LOST;
        }}"""

_GIVE_HELD = """while (t->{name}_held.n > 0) {{
        uint32_t white = release(t, &t->{name}_held);
        {next}(t, white);
    }}
    """

_PREPEND = """\
/* {what} */
static void {name}(tokenizer_t *t, uint32_t c)
{{
    if (!t->{name}_begun) {{
        t->{name}_begun = true;
        {content}
    }}
    {next}(t, c);
}}

static void {name}_end(tokenizer_t *t)
{{
    t->{name}_begun = false;
    {next}_end(t);
}}
"""


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
            _RUN.format(
                what=f"Runs of {step.least} or more become {_shown(step.content)}.",
                content=content,
                keep=_KEEP.format(**values) if step.least > 1 else "",
                release=_RELEASE.format(**values) if step.least > 1 else "",
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
            _TEXT.format(what=what, content=content, size=len(step.pattern), pattern=pattern, **values),
            [f"uint32_t {name}_n;", *_held(name, len(step.pattern)), *flag],
            [f"t->{name}_n = 0;", *unset],
        )
    state = [f"bool {name}_begun;"]
    reset = [f"t->{name}_begun = false;"]
    if isinstance(step, Prepend):
        what = f"{_shown(step.text)} before a text that is not empty."
        return Stage(_PREPEND.format(what=what, content=_gives(step.text, following, 8), **values), state, reset)
    return Stage(_strip(step, removed, values), [*state, f"held_t {name}_held;"], [*reset, f"t->{name}_held.n = 0;"])


def _strip(step: Strip, removed: str, values: dict) -> str:
    white = _HOLD.format(begun=f"t->{values['name']}_begun && " if step.left else "", **values)
    if step.left and removed:
        white = removed + "\n        " + white
    last = "" if step.right else _GIVE_HELD.format(**values)
    where = " or ".join(word for word, on in (("at the beginning", step.left), ("at the end", step.right)) if on)
    return _STRIP.format(where=where or "is removed", white=white, last=last, **values)


def _shown(text: str) -> str:
    return " ".join(f"U+{ord(c):04X}" for c in text) or "nothing"
