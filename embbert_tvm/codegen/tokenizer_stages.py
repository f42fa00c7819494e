"""The C of normalizers that look characters up: one stage each, in the order of the text's way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embbert_tvm.codegen.c_tables import array, sequence_arrays, triples
from embbert_tvm.codegen.templates import fill, template
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
    points = np.arange(POINTS, dtype=np.int32) | RAW
    return points if kinds is None else points | kinds.astype(np.int32) << KIND_SHIFT


_LOOKUP = template("tokenizer_map_lookup.c.in")

_DIRECT = "return {name}_low[low << {low_bits} | (c & {low_mask}u)];"

_PLACE = template("tokenizer_map_place.c.in").rstrip("\n")

_LISTED = template("tokenizer_map_listed.c.in")

_MAP = template("tokenizer_map_map.c.in")

_SEQUENCE = template("tokenizer_map_sequence.c.in")

_REMOVED = template("tokenizer_map_removed.c.in")

_RELATIVE = template("tokenizer_map_relative.c.in")

_HANGUL = template("tokenizer_map_hangul.c.in")

_PLAIN = template("tokenizer_map_plain.c.in")

_END = "\n" + template("tokenizer_map_end.c.in")


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
            fill(_LISTED, name=name, count=len(points)),
        ]
        found = fill(_PLACE, listed=LISTED, **low)
    code = fill(
        _LOOKUP,
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
        "removed": fill(_REMOVED, name=name) if tells_removed else "",
    }
    parts = [
        lookup(name, table),
        array(f"{name}_units", units.astype(np.uint32)),
        sequence_arrays(name, table.at, table.sequences) if sequences else "",
        fill(
            _MAP,
            relative=relative,
            sequence=fill(_SEQUENCE, **values) if sequences else "",
            inline="" if table.hangul else "inline ",
            **values,
        ),
        fill(_HANGUL if table.hangul else _PLAIN, **values) + fill(_END, **values),
    ]
    code = "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"
    if tells_removed:
        return Stage(code, [f"bool {name}_passed;"], [f"t->{name}_passed = false;"])
    return Stage(code)


_ORDER = template("tokenizer_map_order.c.in")

_COMPOSE = template("tokenizer_map_compose.c.in")


def order_stage(name: str, following: str, compose: bool) -> Stage:
    """Canonical order of the marks that map_stage() gives with their classes as kinds, and composition."""
    state, reset = [f"marks_t {name}_marks;"], [f"t->{name}_marks.n = 0;"]
    if not compose:
        return Stage(fill(_ORDER, name=name, next=following), state, reset)
    state += [f"uint32_t {name}_first;", f"PLACES({name}_first_place)"]
    reset.append(f"t->{name}_first = TOKENIZER_NO_POINT;")
    pairs = compositions()
    code = triples(f"{name}_pairs", pairs) + "\n\n" + fill(_COMPOSE, name=name, next=following, count=len(pairs))
    return Stage(code, state, reset)
