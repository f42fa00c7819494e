"""Text in columns."""

from __future__ import annotations


def table(rows: list[tuple[str, ...]], right: tuple[int, ...] = ()) -> str:
    """Rows as aligned columns; those in `right` flush right, and left out where no row says anything there."""
    columns = [c for c in range(len(rows[0])) if c not in right or any(row[c] for row in rows[1:])]
    widths = {c: max(len(row[c]) for row in rows) for c in columns}
    return "\n".join(
        "  ".join(row[c].rjust(widths[c]) if c in right else row[c].ljust(widths[c]) for c in columns).rstrip()
        for row in rows
    )
