"""The stages of a tokenizer, put together: normalizers, added tokens, units, pre-tokenizers, words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embbert_tvm.codegen import graphemes
from embbert_tvm.codegen.c_tables import array, sequence_arrays, triples
from embbert_tvm.codegen.templates import fill, template
from embbert_tvm.codegen.tokenizer_splitters import kinds_of, splitter_stages, units_of
from embbert_tvm.codegen.tokenizer_stages import Stage, lookup, map_stage, order_stage, raw_units
from embbert_tvm.codegen.tokenizer_steps import step_stage
from embbert_tvm.codegen.tokenizer_tables import CharacterTable, trie
from embbert_tvm.codegen.unicode_map import Outputs, combining_classes, identity, made_of, members, outputs
from embbert_tvm.data.tokenizer_spec import (
    AddedToken,
    Begin,
    MapCharacters,
    MapGraphemes,
    Normalizer,
    OrderMarks,
    TokenizerSpec,
)
from embbert_tvm.errors import InputError


@dataclass(frozen=True)
class Chain:
    """The C of all stages. first: the name of what takes a text's code points."""

    code: str
    first: str
    state: Sequence[str]
    reset: Sequence[str]


def stages(spec: TokenizerSpec, values: np.ndarray) -> Chain:
    """The stages of a spec between code points and `word(t, unit)`.

    values: the value of each code point's unit, as the model sees it.
    """
    kinds = kinds_of(spec.splitters)
    units = units_of(kinds, values)
    splitting = splitter_stages(spec.splitters, kinds, units, "word")
    target = "split_0" if splitting else "word"
    matched = [token for token in spec.added if token.normalized] if spec.normalizers else []
    steps = _fused(spec.normalizers)
    if not matched:
        steps = _without_order(steps, units)
    maps = [steps.pop().normalizer] if steps and isinstance(steps[-1], MapCharacters) and not matched else []
    tells_removed = any(isinstance(s, Begin) and s.first for s in spec.splitters)
    last = map_stage("units", target, _outputs(maps), units, tells_removed=tells_removed)
    found = [*reversed(splitting), last]
    following = "units"
    if matched:
        found.append(_match_stage(spec, matched, tells_removed))
        following = "match"
    for number, step in reversed(list(enumerate(steps))):
        name = f"normalize_{number}"
        found.append(_normalizer_stage(name, following, step, steps[number + 1 :], tells_removed))
        following = name
    return Chain(
        "\n".join(stage.code for stage in found),
        following,
        [line for stage in found for line in stage.state],
        [line for stage in found for line in stage.reset],
    )


def _outputs(maps: Sequence[str]) -> Outputs:
    return outputs(_parts(maps)) if maps else identity()


def _parts(maps: Sequence[str]) -> tuple[str, ...]:
    return tuple(part for each in maps for part in each.split("\n"))


def _fused(steps: Sequence[Normalizer]) -> list[Normalizer]:
    """Maps of characters that follow one another as one, whose normalizers stand a line each."""
    found: list[Normalizer] = []
    for step in steps:
        if isinstance(step, MapCharacters) and found and isinstance(found[-1], MapCharacters):
            found[-1] = MapCharacters(f"{found[-1].normalizer}\n{step.normalizer}")
        else:
            found.append(step)
    return found


def _without_order(steps: list[Normalizer], units: np.ndarray) -> list[Normalizer]:
    """The steps without canonical order at their end, where the marks that are left all have the same unit."""
    ordered = len(steps) >= 2 and [type(s) for s in steps[-3:][-2:]] == [OrderMarks, MapCharacters]
    only = bool(steps) and isinstance(steps[-1], OrderMarks)
    if not (ordered or only):
        return steps
    place = len(steps) - (2 if ordered else 1)
    if steps[place].compose:
        return steps
    marks = np.flatnonzero(combining_classes())
    rest = _parts([steps[-1].normalizer]) if ordered else ()
    made = made_of(rest, marks)
    left = {tuple(units[list(made[mark])].tolist()) for mark in marks.tolist()} - {()}
    if len(left) > 1:
        return steps
    return _fused([step for number, step in enumerate(steps) if number != place])


def _normalizer_stage(
    name: str, following: str, step: Normalizer, behind: Sequence[Normalizer], tells_removed: bool
) -> Stage:
    if isinstance(step, MapCharacters):
        orders = bool(behind) and isinstance(behind[0], OrderMarks)
        given = raw_units(combining_classes()) if orders else raw_units()
        found = _outputs([step.normalizer])
        return map_stage(name, following, found, given, "unit" if orders else "point", tells_removed)
    if isinstance(step, OrderMarks):
        return order_stage(name, following, step.compose)
    if isinstance(step, MapGraphemes):
        if any(isinstance(other, MapGraphemes) for other in behind):
            raise InputError("a normalizer with more than one Precompiled is not supported on the device")
        return _grapheme_stage(name, following, step)
    return step_stage(name, following, step, tells_removed)


_GRAPHEMES = template("tokenizer_graphemes.c.in")


def _grapheme_stage(name: str, following: str, step: MapGraphemes) -> Stage:
    found = graphemes.read(step.charsmap)
    mapped = map_stage(f"{name}_map", following, found.one, raw_units(), "point")
    flags = CharacterTable((), (), (0,), *trie(found.flags.astype(np.int64)), hangul=False)
    at = np.cumsum([0, *(len(made) for _, _, made in found.pairs)]).tolist()
    made = [point for _, _, points in found.pairs for point in points]
    pairs = [(first, second, number + 1) for number, (first, second, _) in enumerate(found.pairs)]
    keys = [c for c in range(0x80) if found.flags[c] & graphemes.KEY]
    is_key = " || ".join(f"c == {c:#x}u" for c in keys)
    code = "\n\n".join(
        [
            mapped.code.rstrip("\n"),
            lookup("grapheme_flag", flags).rstrip("\n"),
            triples("grapheme_pairs", pairs or [(0, 0, 0)]),
            sequence_arrays("grapheme", at, made),
            fill(
                _GRAPHEMES,
                name=name,
                next=following,
                count=len(pairs),
                control=graphemes.CONTROL,
                keys=f"({is_key}) ? {graphemes.KEY}u : 0u" if keys else "0u",
            ),
        ]
    )
    state = [
        "uint32_t cluster[5], clustered, cluster_bytes;",
        "PLACES(cluster_places[5])",
        "uint32_t last_flags, last_point, pictograph;",
        "bool in_cluster;",
    ]
    zero = ("clustered", "cluster_bytes", "last_flags", "last_point", "pictograph")
    return Stage(code, state, [*(f"t->{field} = 0;" for field in zero), "t->in_cluster = false;"])


_MATCH = template("tokenizer_match.c.in")


def added_flags(token: AddedToken) -> int:
    """The flags of an added token, in C ADDED_*."""
    return token.single_word + 2 * token.strips_left + 4 * token.strips_right + 8 * token.ignored


def word_test(spec: TokenizerSpec) -> str:
    """tokenizer_is_word(), where an added token must be a word of its own."""
    if not any(token.single_word for token in spec.added):
        return ""
    table = CharacterTable((), (), (0,), *trie(members("word").astype(np.int64)), hangul=False)
    test = "static inline bool tokenizer_is_word(uint32_t c)\n{\n    return word_entry(c) != 0;\n}\n\n"
    return f"#ifndef TOKENIZER_WORD_TEST\n#define TOKENIZER_WORD_TEST\n{lookup('word', table)}\n{test}#endif\n"


def _match_stage(spec: TokenizerSpec, tokens: Sequence[AddedToken], tells_removed: bool) -> Stage:
    ranked = sorted(tokens, key=lambda token: (-len(token.text), token.id))
    longest = len(ranked[0].text)
    tables = [
        word_test(spec),
        array("match_points", np.array([ord(c) for token in ranked for c in token.text], np.uint32)),
        array("match_at", np.cumsum([0, *(len(token.text) for token in ranked)]).tolist()),
        array("match_flags", np.array([added_flags(token) for token in ranked], np.uint8)),
        array("match_ids", np.array([token.id for token in ranked], np.uint32)),
    ]
    end = "(units_end(t), (t)->is_first = false)" if tells_removed else "units_end(t)"
    state = [
        f"uint32_t ahead[{longest + 1}], ahead_n, no_match;",
        f"PLACES(ahead_places[{longest + 1}])",
        "held_t spaces_ahead;",
        "bool strips;",
    ]
    reset = ["t->ahead_n = 0;", "t->no_match = 0;", "t->spaces_ahead.n = 0;", "t->strips = false;"]
    if any(token.single_word for token in spec.added):
        state.append("bool behind_is_word;")
        reset.append("t->behind_is_word = false;")
    code = fill(_MATCH, tables="\n\n".join(tables), count=len(ranked), longest=longest, end=end)
    return Stage(code, state, reset)
