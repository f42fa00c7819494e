"""A suite's figures as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from embbert_tvm.data.tasks import Task
from embbert_tvm.table import table
from embbert_tvm.training.suite import COMPILED, FLOAT, Summary


def text(summaries: Sequence[Summary], means: Mapping[str, tuple[float, list[str]]], tasks: Sequence[Task]) -> str:
    """One line a task and metric: mean ± standard deviation over the seeds in points of 100, float and compiled."""
    found = {(x.task, x.metric, x.precision): x for x in summaries}
    rows = [("task", "metric", "float", "int8", "seeds", "examples")]
    for key in dict.fromkeys((x.task, x.metric) for x in summaries):
        float_, int8 = found[(*key, FLOAT)], found.get((*key, COMPILED))
        seeds = ",".join(map(str, float_.seeds))
        rows.append((*key, _points(float_), _points(int8) if int8 else "", seeds, f"{float_.examples:,}"))
    lines = [table(rows, right=(2, 3, 5))]
    for precision, (value, of) in means.items():
        lines.append(f"mean, {precision}: {100 * value:.2f} over {', '.join(of)}")
    shown = {x.task for x in summaries}
    for task in tasks:
        if task.note and task.name in shown:
            lines.append(f"{task.name}: {task.note}")
    if missing := [task.name for task in tasks if not shown & {task.figure_name(test) for test in task.tests}]:
        lines.append(f"no models of {', '.join(missing)}")
    return "\n".join(lines)


def _points(summary: Summary) -> str:
    deviation = "" if summary.deviation is None else f" ± {100 * summary.deviation:.2f}"
    return f"{100 * summary.mean:.2f}{deviation}"
