"""Heads: what a model's outputs are, by the names that config.json and metadata.json have for them."""

from __future__ import annotations

ONE_LABEL = "one label"  # a text has one label: scores are the softmax of the logits
MANY_LABELS = "many labels"  # a text may have several: each score is the sigmoid of its logit
REGRESSION = "regression"  # one value
TOKENS = "tokens"  # each token has one label
VECTOR = "vector"  # the numbers are the answer
HEADS = (ONE_LABEL, MANY_LABELS, REGRESSION, TOKENS, VECTOR)  # in the order of the C's <PREFIX>_HEAD_... from 0

# What `export` wrote before.
_OLDER = {"labels": ONE_LABEL, "embedding": VECTOR}


def head_named(name: object) -> str | None:
    """The head that a file names; None for a name of none."""
    found = _OLDER.get(name, name) if isinstance(name, str) else None
    return found if found in HEADS else None


def head_for(outputs: int, is_of_tokens: bool, has_labels: bool) -> str:
    """The head of a model that does not say: labels of tokens or of the text, or a value where there is but one."""
    if is_of_tokens:
        return TOKENS
    return REGRESSION if outputs == 1 and not has_labels else ONE_LABEL
