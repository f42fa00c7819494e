"""The C of pre-tokenizers: kinds of characters, and the stages that split a text by them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embbert_tvm.codegen.c_tables import array
from embbert_tvm.codegen.templates import fill, template
from embbert_tvm.codegen.tokenizer_stages import Stage
from embbert_tvm.codegen.tokenizer_tables import KIND_SHIFT
from embbert_tvm.codegen.unicode_map import POINTS, members
from embbert_tvm.data.tokenizer_spec import Begin, Delimit, SplitPattern, Splitter
from embbert_tvm.errors import InputError

_MOST_KINDS = 32  # a row of a table of kinds is a word of so many bits

# The classes of embbert_pattern.h, by the set that each is.
_CLASSES = (
    (6, r"\p{L}"), (5, r"\p{N}"), (2, r"\s"), (1, r"[\r\n]"), (0, " "), (4, "'"),
)  # fmt: skip
_CONTRACTIONS = ((7, "stmd"), (8, "r"), (9, "v"), (10, "l"), (11, "e"))
_OTHER, _LETTER = 3, 6


@dataclass(frozen=True)
class Kinds:
    """What the splitters tell apart.

    of: the kind of each code point, uint8 (POINTS,). seen_as: the code point that each is to the model, int32
    (POINTS,). columns: of each kind, what each splitter takes it for.
    """

    of: np.ndarray
    seen_as: np.ndarray
    columns: tuple[tuple[int, ...], ...]

    def column(self, splitter: int) -> list[int]:
        return [row[splitter] for row in self.columns]


def kinds_of(splitters: Sequence[Splitter]) -> Kinds:
    """The kinds that the splitters need, as few as they are."""
    seen = np.arange(POINTS, dtype=np.int32)
    columns, replaces = list[np.ndarray](), None
    for splitter in splitters:
        if isinstance(splitter, Begin) and splitter.replaces is not None:
            replaces = splitter.replaces
            seen[seen == ord(replaces)] = ord(splitter.character)
        column = _column(splitter)
        columns.append(column if replaces is None else column[seen])
    kinds, rows = np.zeros(POINTS, np.uint8), [()]
    for column in columns:  # kinds by what the columns so far tell apart
        codes = kinds.astype(np.uint16) * 16 + column
        present = np.zeros(int(codes.max()) + 1, bool)
        present[codes] = True
        found = np.flatnonzero(present)
        if len(found) > _MOST_KINDS:
            raise InputError(f"a pre-tokenizer that tells {len(found)} kinds of characters apart is not supported")
        rows = [(*rows[code // 16], int(code % 16)) for code in found]
        numbers = np.zeros(int(found.max()) + 1, np.uint8)
        numbers[found] = np.arange(len(found))
        kinds = numbers[codes]
    order = sorted(range(len(rows)), key=lambda kind: rows[kind][::-1])
    return Kinds(np.argsort(order).astype(np.uint8)[kinds], seen, tuple(rows[kind] for kind in order))


def _column(splitter: Splitter) -> np.ndarray:
    if isinstance(splitter, Delimit):
        return members(splitter.members).astype(np.uint8)
    if isinstance(splitter, Begin):
        return (np.arange(POINTS) == ord(splitter.character)).astype(np.uint8)
    return _pattern_classes(splitter.newlines)


def _pattern_classes(any_case: bool) -> np.ndarray:
    classes = np.full(POINTS, _OTHER, np.uint8)
    for number, name in _CLASSES:
        classes[members(name)] = number
    for number, letters in _CONTRACTIONS:
        for letter in letters:
            classes[members(f"(?i:{letter})" if any_case else letter)] = number
    return classes


_BETWEEN = {
    "removed": lambda a, b: a != b,
    "isolated": lambda a, b: bool(a or b),
    "contiguous": lambda a, b: a != b,
    "merged_with_previous": lambda a, b: bool(a),
    "merged_with_next": lambda a, b: bool(b),
}

_DELIMIT = template("tokenizer_split_delimit.c.in")

_BEGIN = template("tokenizer_split_begin.c.in")

_PATTERN = template("tokenizer_split_pattern.c.in")

_CLASS_OF = template("tokenizer_split_class_of.c.in")


def splitter_stages(splitters: Sequence[Splitter], kinds: Kinds, unit_of: np.ndarray, last: str) -> list[Stage]:
    """The stages of pre-tokenizers, delimiters that follow one another in one; the last gives units to `last`.

    The first is named split_0. unit_of: the unit of each code point.
    """
    groups: list[list[int]] = []
    for number, splitter in enumerate(splitters):
        if groups and isinstance(splitter, Delimit) and isinstance(splitters[groups[-1][-1]], Delimit):
            groups[-1].append(number)
        else:
            groups.append([number])
    stages = []
    for place, group in enumerate(groups):
        name = f"split_{place}"
        following = last if place == len(groups) - 1 else f"split_{place + 1}"
        splitter = splitters[group[0]]
        if isinstance(splitter, Delimit):
            stages.append(_delimit(name, following, [splitters[n] for n in group], [kinds.column(n) for n in group]))
        elif isinstance(splitter, Begin):
            stages.append(_begin(name, following, splitter, kinds.column(group[0]), unit_of))
        else:
            stages.append(_pattern(name, following, splitter, kinds.column(group[0])))
    return stages


def _mask(kinds: Sequence[int]) -> int:
    return sum(1 << kind for kind in kinds)


def _delimit(name: str, following: str, splitters: Sequence[Delimit], columns: Sequence[Sequence[int]]) -> Stage:
    count = len(columns[0])
    removed = [
        any(column[kind] and s.behavior == "removed" for s, column in zip(splitters, columns, strict=True))
        for kind in range(count)
    ]

    def between(left: int, right: int) -> bool:
        return any(
            _BETWEEN[s.behavior](column[left], column[right]) for s, column in zip(splitters, columns, strict=True)
        )

    code = ""
    pairs = list(itertools.product(range(count), repeat=2))
    # Between two that are removed it does not matter, nor whether one piece ends twice.
    if all(between(a, b) == (a != b) or (removed[a] and removed[b]) for a, b in pairs):
        test = f"t->{name}_kind != kind + 1u"
    else:
        rows = [0, *(_mask([b for b in range(count) if between(a, b)]) for a in range(count))]
        code = f"/* Bit b of a row: a piece ends between its kind and kind b. */\n{array(f'{name}_between', rows)}\n\n"
        test = f"{name}_between[t->{name}_kind] >> kind & 1u"
    gone = [kind for kind in range(count) if removed[kind]]
    put = f"    {following}(t, unit);\n"
    if gone:
        kept = f"kind != {gone[0]}u" if len(gone) == 1 else f"!({_mask(gone):#x}u >> kind & 1u)"
        put = f"    if ({kept}) {{\n        {following}(t, unit);\n    }}\n"
    code += fill(_DELIMIT, name=name, next=following, between=test, put=put)
    return Stage(code, [f"uint8_t {name}_kind;"], [f"t->{name}_kind = 0;"])


def _begin(name: str, following: str, splitter: Begin, column: Sequence[int], unit_of: np.ndarray) -> Stage:
    reset = ["t->begun = false;"]
    if not (splitter.always or splitter.first):
        code = f"#define {name} {following}\n#define {name}_end {following}_end\n"
        return Stage(code, [], [])
    marks = [kind for kind, is_mark in enumerate(column) if is_mark]
    tests = [f"!({_mask(marks):#x}u >> UNIT_KIND(unit) & 1u)"]
    where = "each piece"
    if splitter.first:
        tests.append("t->is_first && !t->removed")
        where = "the text's first piece"
    what = f"U+{ord(splitter.character):04X} before {where}, if it does not begin with one."
    prefix = int(unit_of[ord(splitter.character)])
    code = fill(_BEGIN, name=name, next=following, what=what, test=" && ".join(tests), prefix=f"{prefix:#x}")
    return Stage(code, ["bool begun;"], reset)


def _pattern(name: str, following: str, splitter: SplitPattern, column: Sequence[int]) -> Stage:
    classes = ""
    if list(column) == list(range(len(column))):
        value = "kind"
    else:
        classes = array("pattern_classes", np.array(column, np.uint8)) + "\n\n"
        value = "pattern_classes[kind]"
    classes += fill(_CLASS_OF, value=value)
    if splitter.newlines:
        classes += f"\n#define TOKENIZER_DIGITS {splitter.digits}"
    state = ["uint8_t within;", "uint32_t held_unit;", "uint32_t held_letter;"]
    state += ["PLACES(held_place)", "PLACES(letter_place)"]
    reset = ["t->within = 0;", "t->held_unit = 0;", "t->held_letter = 0;"]
    if splitter.newlines:
        state += ["held_t spaces;", "uint8_t numbers;", "bool newline;"]
        reset += ["t->spaces.n = 0;", "t->numbers = 0;", "t->newline = false;"]
    header = "embbert_llama3.h" if splitter.newlines else "embbert_gpt2.h"
    return Stage(fill(_PATTERN, name=name, next=following, classes=classes, header=header), state, reset)


def units_of(kinds: Kinds, values: np.ndarray) -> np.ndarray:
    """The unit of each code point, int32 (POINTS,). values: of each, as the model sees it."""
    return values[kinds.seen_as] | kinds.of.astype(np.int32) << KIND_SHIFT
