"""The C that turns scores of tags into slots of a text; its semantics are those of data/slots.py."""

from __future__ import annotations

from collections.abc import Sequence

from embbert_tvm.codegen.c_tables import rows
from embbert_tvm.codegen.steps import Program, Tagging
from embbert_tvm.codegen.templates import substitute, template
from embbert_tvm.escape import c_string
from embbert_tvm.heads import VITERBI, FurtherHead

_TAG = template("tag.c.in")
_RULES = {True: template("tag_viterbi.c.in"), False: template("tag_greedy.c.in")}
_CALLS = template("calls_tag.h.in")
_NO_TAG = 0xFFFF


def tagged_head(program: Program, more: Sequence[FurtherHead]) -> FurtherHead | None:
    """The head whose tags become slots: the first of tokens of a program that takes texts; None without."""
    return next((head for head in more if head.of_tokens and program.tagging is not None), None)


def source(program: Program, more: Sequence[FurtherHead], prefix: str) -> str:
    """The C of <prefix>_tag(); nothing of a model that has no slots.

    Models with further heads have EmbBERT's tokenizer: one token before a text, none behind it, and words split at
    white space alone.
    """
    head = tagged_head(program, more)
    if head is None:
        return ""
    assert program.tagging is not None
    slots, number = head.slots, {tag: n for n, tag in enumerate(head.labels)}
    slot_of = [slots.index(tag[2:]) if tag != "O" else _NO_TAG for tag in head.labels]
    begin_of = [number[f"B{tag[1:]}"] if tag.startswith("I-") else _NO_TAG for tag in head.labels]
    return substitute(
        _TAG,
        prefix,
        rule=_RULES[head.rule == VITERBI],
        head=head.name.upper(),
        slot_of=rows([*map(str, slot_of)]),
        begin_of=rows([*map(str, begin_of)]),
        slots="\n".join(f"        {c_string(name)}," for name in slots),
        **_places(program.tagging),
    )


def calls(program: Program, more: Sequence[FurtherHead], prefix: str) -> str:
    """What the header says of slots."""
    head = tagged_head(program, more)
    return "" if head is None else substitute(_CALLS, prefix, count=len(head.slots))


def _places(tagging: Tagging) -> dict[str, object]:
    return {
        "tag_ids": tagging.ids.offset,
        "tag_window": tagging.window.offset,
        "tag_words": tagging.words.offset,
        "before": 1,
        "around": 1,
    }
