"""What became of a vocabulary that was pruned."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embbert_tvm.pruning import Pruned


def vocabulary_line(pruned: Pruned) -> str:
    """What became of a vocabulary, on one line."""
    line = f"{pruned.tokens_after:,} of {pruned.tokens_before:,} tokens"
    line += f", {pruned.split_otherwise:.2%} of words split otherwise"
    if pruned.accuracy_before is None or pruned.accuracy_after is None:
        return line
    return f"{line}, accuracy {pruned.accuracy_before:.4f} before, {pruned.accuracy_after:.4f} now"
