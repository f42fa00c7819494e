"""The C of normalizers that look characters up: one stage each, in the order of the text's way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embbert_tvm.codegen.c_tables import array, sequence_arrays, triples
from embbert_tvm.codegen.tokenizer_tables import KIND_SHIFT, LISTED, RAW, CharacterTable, character_table
from embbert_tvm.codegen.unicode_map import POINTS, REMOVED, Outputs, compositions


@dataclass(frozen=True)
class Stage:
    """The C of one step, which gives what it makes to `<next>(t, unit)` and ends with `<next>_end(t)`.

    state: fields of tokenizer_t; reset: what sets them at a text's beginning.
    """

    code: str
    state: Sequence[str] = ()
    reset: Sequence[str] = ()


def raw_units(kinds: np.ndarray | None = None) -> np.ndarray:
    """The unit of each code point that is given on as it is, with its kind if there are kinds."""
    points = np.arange(POINTS, dtype=np.int64) | RAW
    return points if kinds is None else points | kinds.astype(np.int64) << KIND_SHIFT


_LOOKUP = """\
/* What becomes of a code point: below {count} a unit, else a sequence of none or several. */
static inline uint32_t {name}_entry(uint32_t c)
{{
    uint32_t high = {name}_top[c >> {high_bits}];
    uint32_t low = {name}_middle[high << {middle_bits} | (c >> {low_bits} & {middle_mask}u)];
    {found}
}}
"""

_DIRECT = "return {name}_low[low << {low_bits} | (c & {low_mask}u)];"

_PLACE = """uint32_t place = {name}_low[low << {low_bits} | (c & {low_mask}u)];
    return place == {listed}u ? {name}_listed_entry(c) : {name}_direct[place];"""

_LISTED = """\
/* The entry of a code point that is in the list. */
static uint32_t {name}_listed_entry(uint32_t c)
{{
    uint32_t low = 0, high = {count}u - 1u;
    while (low < high) {{
        uint32_t middle = (low + high) / 2u;
        if ({name}_listed[middle] < c) {{
            low = middle + 1u;
        }} else {{
            high = middle;
        }}
    }}
    return {name}_listed_entries[low];
}}
"""

_MAP = """\
static {inline}void {name}_one(tokenizer_t *t, uint32_t c)
{{
    uint32_t entry = {name}_entry(c);
    if (entry < {count}u) {{
        uint32_t unit = {name}_units[entry];
{relative}        {put};{passed}
        return;
    }}
{sequence}}}
"""

_SEQUENCE = """\
    entry -= {count}u;
{removed}    for (uint32_t i = {name}_at[entry]; i < {name}_at[entry + 1u]; i++) {{
        uint32_t unit = {name}_sequences[i];
        {put};
    }}
"""

_REMOVED = """\
    if ({name}_at[entry] < {name}_at[entry + 1u]) {{
        t->{name}_passed = true;
    }} else if (!t->{name}_passed) {{
        t->removed = true;
    }}
"""

_RELATIVE = """\
        unit = (unit & ~0x1FFFFFu) | UNIT_POINT(unit + c);
"""

_HANGUL = """\
static void {name}(tokenizer_t *t, uint32_t c)
{{
    uint32_t syllable = c - 0xAC00u; /* it falls apart into two or three letters */
    if (syllable < 11172u) {{
        {name}_one(t, 0x1100u + syllable / 588u);
        {name}_one(t, 0x1161u + syllable % 588u / 28u);
        if (syllable % 28u > 0) {{
            {name}_one(t, 0x11A7u + syllable % 28u);
        }}
        return;
    }}
    {name}_one(t, c);
}}
"""

_PLAIN = """\
static void {name}(tokenizer_t *t, uint32_t c)
{{
    {name}_one(t, c);
}}
"""

_END = """\

static inline void {name}_end(tokenizer_t *t)
{{
{restart}    {next}_end(t);
}}
"""


def lookup(name: str, table: CharacterTable) -> str:
    """The tables of a CharacterTable and the function that finds a code point's entry."""
    arrays = [array(f"{name}_{part}", getattr(table, part)) for part in ("top", "middle", "low")]
    low = {"name": name, "low_bits": table.low_bits, "low_mask": (1 << table.low_bits) - 1}
    found = _DIRECT.format(**low)
    if table.direct:
        points, entries = zip(*table.listed, strict=True)
        arrays += [
            array(f"{name}_direct", list(table.direct)),
            array(f"{name}_listed", list(points)),
            array(f"{name}_listed_entries", list(entries)),
            _LISTED.format(name=name, count=len(points)),
        ]
        found = _PLACE.format(listed=LISTED, **low)
    code = _LOOKUP.format(
        count=len(table.units),
        high_bits=table.low_bits + table.middle_bits,
        middle_bits=table.middle_bits,
        middle_mask=(1 << table.middle_bits) - 1,
        found=found,
        **low,
    )
    return "\n\n".join([*arrays, code])


def map_stage(
    name: str,
    following: str,
    found: Outputs,
    unit_of: np.ndarray,
    gives: str = "unit",
    tells_removed: bool = False,
) -> Stage:
    """What a normalizer makes of characters, looked up.

    Args:
        found: what becomes of each code point.
        unit_of: the unit of each of what comes out.
        gives: "unit" gives the next stage units, "point" code points.
        tells_removed: t->removed is set where the beginning of a text is removed.
    """
    table = character_table(found, unit_of)
    put = f"{following}(t, {'unit' if gives == 'unit' else 'UNIT_POINT(unit)'})"
    values = {"name": name, "count": len(table.units), "put": put, "next": following}
    units = np.array(table.units)
    if not (units & RAW).any():
        relative = ""
    elif (units & RAW).all():
        relative = _RELATIVE
    else:
        relative = f"        if (unit & TOKENIZER_RAW) {{\n    {_RELATIVE}        }}\n"
    sequences = len(table.at) > 1
    tells_removed = tells_removed and bool((found.one == REMOVED).any())
    values |= {
        "passed": f"\n        t->{name}_passed = true;" if tells_removed else "",
        "restart": f"    t->{name}_passed = false;\n" if tells_removed else "",
        "removed": _REMOVED.format(name=name) if tells_removed else "",
    }
    parts = [
        lookup(name, table),
        array(f"{name}_units", units.astype(np.uint32)),
        sequence_arrays(name, table.at, table.sequences) if sequences else "",
        _MAP.format(
            relative=relative,
            sequence=_SEQUENCE.format(**values) if sequences else "",
            inline="" if table.hangul else "inline ",
            **values,
        ),
        (_HANGUL if table.hangul else _PLAIN).format(**values) + _END.format(**values),
    ]
    code = "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"
    if tells_removed:
        return Stage(code, [f"bool {name}_passed;"], [f"t->{name}_passed = false;"])
    return Stage(code)


_ORDER = """\
/* Combining marks into canonical order. */
static void {name}_flush(tokenizer_t *t)
{{
    PLACES(here)
    KEEP_PLACE(here);
    for (uint32_t i = 0; i < t->{name}_marks.n; i++) {{
        SET_PLACE(t->{name}_marks.places[i]);
        {next}(t, UNIT_POINT(t->{name}_marks.units[i]));
    }}
    SET_PLACE(here);
    t->{name}_marks.n = 0;
}}

static void {name}(tokenizer_t *t, uint32_t unit)
{{
    if (UNIT_KIND(unit) == 0) {{
        {name}_flush(t);
        {next}(t, UNIT_POINT(unit));
    }} else if (!keep_mark(t, &t->{name}_marks, unit)) {{
        t->end = TOKENIZER_LOST;
    }}
}}

static void {name}_end(tokenizer_t *t)
{{
    {name}_flush(t);
    {next}_end(t);
}}
"""

_COMPOSE = """\
/* The character that two are together; TOKENIZER_NO_POINT: none. */
static uint32_t {name}_join(uint32_t first, uint32_t second)
{{
    uint32_t joined = second < 0x300u ? 0u : join_hangul(first, second);
    if (joined == 0 && second >= 0x300u) {{
        joined = find_pair({name}_pairs, {count}, first, second);
    }}
    return joined == 0 ? TOKENIZER_NO_POINT : joined;
}}

/* Join marks, which are in canonical order, with the character before them. */
static void {name}_join_marks(tokenizer_t *t)
{{
    marks_t *marks = &t->{name}_marks;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < marks->n; i++) {{
        uint32_t unit = marks->units[i], joined = TOKENIZER_NO_POINT;
        if (t->{name}_first != TOKENIZER_NO_POINT &&
            (kept == 0 || UNIT_KIND(marks->units[kept - 1u]) != UNIT_KIND(unit))) {{
            joined = {name}_join(t->{name}_first, UNIT_POINT(unit));
        }}
        if (joined != TOKENIZER_NO_POINT) {{
            t->{name}_first = joined;
        }} else {{
            PLACES(here)
            KEEP_PLACE(here);
            SET_PLACE(marks->places[i]);
            KEEP_PLACE(marks->places[kept]);
            SET_PLACE(here);
            marks->units[kept++] = unit;
        }}
    }}
    marks->n = kept;
}}

static void {name}_flush(tokenizer_t *t)
{{
    PLACES(here)
    KEEP_PLACE(here);
    if (t->{name}_first != TOKENIZER_NO_POINT) {{
        SET_PLACE(t->{name}_first_place);
        {next}(t, t->{name}_first);
    }}
    for (uint32_t i = 0; i < t->{name}_marks.n; i++) {{
        SET_PLACE(t->{name}_marks.places[i]);
        {next}(t, UNIT_POINT(t->{name}_marks.units[i]));
    }}
    SET_PLACE(here);
    t->{name}_first = TOKENIZER_NO_POINT;
    t->{name}_marks.n = 0;
}}

/* Combining marks into canonical order, and joined with what they follow. */
static void {name}(tokenizer_t *t, uint32_t unit)
{{
    if (UNIT_KIND(unit) != 0) {{
        if (!keep_mark(t, &t->{name}_marks, unit)) {{
            t->end = TOKENIZER_LOST;
        }}
        return;
    }}
    {name}_join_marks(t);
    uint32_t c = UNIT_POINT(unit), joined = TOKENIZER_NO_POINT;
    if (t->{name}_first != TOKENIZER_NO_POINT && t->{name}_marks.n == 0) {{
        joined = {name}_join(t->{name}_first, c);
    }}
    if (joined == TOKENIZER_NO_POINT) {{
        {name}_flush(t);
        KEEP_PLACE(t->{name}_first_place);
        joined = c;
    }}
    t->{name}_first = joined;
}}

static void {name}_end(tokenizer_t *t)
{{
    {name}_join_marks(t);
    {name}_flush(t);
    {next}_end(t);
}}
"""


def order_stage(name: str, following: str, compose: bool) -> Stage:
    """Canonical order of the marks that map_stage() gives with their classes as kinds, and composition."""
    state, reset = [f"marks_t {name}_marks;"], [f"t->{name}_marks.n = 0;"]
    if not compose:
        return Stage(_ORDER.format(name=name, next=following), state, reset)
    state += [f"uint32_t {name}_first;", f"PLACES({name}_first_place)"]
    reset.append(f"t->{name}_first = TOKENIZER_NO_POINT;")
    pairs = compositions()
    code = triples(f"{name}_pairs", pairs) + "\n\n" + _COMPOSE.format(name=name, next=following, count=len(pairs))
    return Stage(code, state, reset)
