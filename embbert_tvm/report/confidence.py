"""How far a model's confidence is to be trusted, as tables."""

from __future__ import annotations

from embbert_tvm.table import table
from embbert_tvm.training.confidence import Confidence, Outside


def text(known: Confidence, outside: Outside | None) -> str:
    """ECE, the risk at each coverage and, where there are such, how texts of none of the labels are told."""
    shares = [_percent(float(share)) for share in known.risk]
    rows = [("of the most confident", *shares), ("are wrong", *map(_percent, known.risk.values()))]
    lines = [table(rows, right=tuple(range(1, len(shares) + 1))), "", f"ECE {known.ece:.4f}, AURC {known.aurc:.4f}"]
    if outside is not None:
        lines += ["", f"{outside.examples:,} texts of none of the labels: AUROC {outside.auroc:.4f}, "]
        lines[-1] += f"AUPRC {outside.auprc:.4f} (of finding them {outside.auprc_outside:.4f}), "
        lines[-1] += f"{_percent(outside.fpr_at_95_recall)} accepted where 95 % of the known are"
    if outside is not None and outside.accepted is not None and outside.rejected_known is not None:
        lines += [f"by the model's threshold {_percent(outside.accepted)} accepted, "]
        lines[-1] += f"of the known {_percent(outside.rejected_known)} rejected"
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
