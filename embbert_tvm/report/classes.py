"""A classifier's figures class by class, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from embbert_tvm.data.classes import ClassFigures, Confusion
from embbert_tvm.table import table

_MOST_CLASSES = 20  # rows of the table that a terminal is shown, the worst


def text(figures: Sequence[ClassFigures], confused: Sequence[Confusion]) -> str:
    """Both as tables; of many classes those with the lowest F1 that have examples."""
    shown = sorted((x for x in figures if x.examples), key=lambda x: x.f1)[:_MOST_CLASSES]
    if len(shown) == len([x for x in figures if x.examples]):
        shown = [x for x in figures if x.examples]
    title = "class" if len(shown) == len(figures) else f"class (the worst {len(shown)} of {len(figures)})"
    rows = [(title, "precision", "recall", "examples")]
    rows += [(x.label, _percent(x.precision), _percent(x.recall), f"{x.examples:,}") for x in shown]
    lines = [table(rows, right=(1, 2, 3))]
    if confused:
        lines += [
            "",
            table(
                [("is", "was taken for", "times"), *((x.expected, x.predicted, f"{x.count}") for x in confused)],
                right=(2,),
            ),
        ]
    return "\n".join(lines)


def unknown(labels: Mapping[str, int]) -> str:
    """A sentence on examples of labels that a model does not have, by label how many."""
    named = ", ".join(f"{label} ({count})" for label, count in labels.items())
    return f"the model does not know {named}: {sum(labels.values())} texts count as wrong"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
