"""What `train` and `distill` show at the end: the model beside the linear baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embbert_tvm.table import table

if TYPE_CHECKING:
    from embbert_tvm.training.job import Result

_AS_GOOD = 0.002  # of accuracy: what few texts of dev decide


def compared(result: Result) -> str:
    """Accuracy on dev and bytes of weights of the linear model and of the trained one."""
    fit, config = result.baseline, result.folder.config
    parameters = config.parameters + result.folder.classes * (config.hidden_size + 1)
    rows = [
        ("model", "accuracy on dev", "weights, int8"),
        ("ngrams (linear)", f"{100 * fit.dev_accuracy:.2f} %", f"{fit.model.bytes / 1000:.0f} kB"),
        (f"{result.folder.name} ({config.title})", f"{100 * result.accuracy:.2f} %", f"{parameters / 1000:.0f} kB"),
    ]
    return table(rows, right=(1, 2))


def advice(result: Result) -> str | None:
    """A sentence where the linear model is as good as the trained one, or better."""
    if result.baseline is None or result.accuracy - result.baseline.dev_accuracy > _AS_GOOD:
        return None
    relation = "better than" if result.baseline.dev_accuracy > result.accuracy else "as good as"
    return f"a linear model is {relation} this one on dev: more epochs, --base embbert-base or `distill` may help"
