"""Heads: what a model's outputs are, by the names that config.json and metadata.json have for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embbert_tvm.errors import InputError

ONE_LABEL = "one label"  # a text has one label: scores are the softmax of the logits
MANY_LABELS = "many labels"  # a text may have several: each score is the sigmoid of its logit
REGRESSION = "regression"  # one value
TOKENS = "tokens"  # each token has one label
VECTOR = "vector"  # the numbers are the answer
HEADS = (ONE_LABEL, MANY_LABELS, REGRESSION, TOKENS, VECTOR)  # in the order of the C's <PREFIX>_HEAD_... from 0

VITERBI = "viterbi"  # the valid tags of the largest sum of scores
GREEDY = "first token"  # word by word, of the tags that may follow the one before, that of the largest score
RULES = (VITERBI, GREEDY)
_MOST_WIDTH = 2**16
_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")

# What `export` wrote before.
_OLDER = {"labels": ONE_LABEL, "embedding": VECTOR}


def check_printable(labels: Iterable[str], where: object) -> None:
    """Raises InputError for a label that is no line of text: with a control character, or half of a surrogate pair."""
    if any(not label.isprintable() for label in labels):
        what = "a control character, as a line end or NUL, or a surrogate"
        raise InputError(f"{where}: labels holds {what}: labels are one line of text")


def head_named(name: object) -> str | None:
    """The head that a file names; None for a name of none."""
    found = _OLDER.get(name, name) if isinstance(name, str) else None
    return found if found in HEADS else None


def head_for(outputs: int, is_of_tokens: bool, has_labels: bool) -> str:
    """The head of a model that does not say: labels of tokens or of the text, or a value where there is but one."""
    if is_of_tokens:
        return TOKENS
    return REGRESSION if outputs == 1 and not has_labels else ONE_LABEL


@dataclass(frozen=True)
class FurtherHead:
    """An output beside a model's first: "one label" of the text; "tokens", whose labels are BIO tags; or a "vector".

    layer: how many of the encoder's layers it reads behind, None for all. rule: of tokens, one of RULES, by which tags
    become spans. width: of a vector, how many numbers it has; it has no labels.
    """

    name: str
    head: str
    labels: tuple[str, ...]
    layer: int | None = None
    rule: str | None = None
    width: int | None = None

    @property
    def values(self) -> int:
        """How many numbers it gives, of each token where it is of tokens."""
        return self.width or len(self.labels)

    @property
    def of_tokens(self) -> bool:
        return self.head == TOKENS

    @property
    def slots(self) -> tuple[str, ...]:
        """The names that stand behind B- and I- in the labels of words, in the order of the C's numbers."""
        return tuple(dict.fromkeys(tag[2:] for tag in self.labels if tag != "O"))

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "head": self.head,
            "labels": list(self.labels),
            "layer": self.layer,
            "rule": self.rule,
            "width": self.width,
        }


def read_heads(document: object) -> tuple[FurtherHead, ...]:
    """What `to_dict` of each wrote, as a list; none for None. Raises InputError that says what is wrong."""
    if document is None:
        return ()
    if not isinstance(document, list) or not all(isinstance(one, dict) for one in document):
        raise InputError("heads must be a list of objects")
    found = tuple(map(_read_head, document))
    if len({head.name for head in found}) != len(found):
        raise InputError("heads holds a name twice")
    return found


def _read_head(document: Mapping[str, Any]) -> FurtherHead:
    name, kind, layer, rule, width = (document.get(key) for key in ("name", "head", "layer", "rule", "width"))
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(f"the name of a head must be a short word of a-z, 0-9 and _, not {name!r}")
    if kind not in (ONE_LABEL, TOKENS, VECTOR):
        raise InputError(f"head {name}: must be {ONE_LABEL!r}, {TOKENS!r} or {VECTOR!r}, not {kind!r}")
    if layer is not None and (type(layer) is not int or layer < 1):
        raise InputError(f"head {name}: layer must be null or a number from 1 on, not {layer!r}")
    if rule not in (RULES if kind == TOKENS else (None,)):
        raise InputError(f"head {name}: rule {rule!r} is not known: choose from {', '.join(RULES)}; null for a label")
    if kind == VECTOR:
        if type(width) is not int or not 1 <= width <= _MOST_WIDTH:
            raise InputError(f"head {name}: width must be a number from 1 to {_MOST_WIDTH}, not {width!r}")
        return FurtherHead(name, kind, (), layer, None, width)
    return FurtherHead(name, kind, _read_names(name, document.get("labels"), kind), layer, rule)


def _read_names(name: str, labels: object, kind: str) -> tuple[str, ...]:
    if not isinstance(labels, Sequence) or not all(isinstance(x, str) and x for x in labels):
        raise InputError(f"head {name}: labels must be strings")
    check_printable(labels, f"head {name}")
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise InputError(f"head {name}: labels must be two or more, each once")
    if kind == TOKENS:
        check_tags(f"head {name}", labels)
    return tuple(labels)


def check_tags(where: str, tags: Sequence[str]) -> None:
    """InputError for tags that are no set of O, and of B-slot for every I-slot."""
    if "O" not in tags:
        raise InputError(f"{where}: the tags lack O")
    for tag in tags:
        if tag != "O" and (tag[:2] not in ("B-", "I-") or len(tag) < 3):
            raise InputError(f"{where}: the tag {tag!r} is none of O, B-slot and I-slot")
        if tag.startswith("I-") and f"B{tag[1:]}" not in tags:
            raise InputError(f"{where}: the tag {tag} has no {f'B{tag[1:]}'} to stand behind")
