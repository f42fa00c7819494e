"""Turn what a terminal showed into a picture: `make demo | python benchmarks/picture.py docs/demo.svg`."""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

CHARACTER, LINE, MARGIN = 7.8, 18, 16
COLOURS = {"$": "#7ee787", "  ": "#e6edf3"}


def svg(text: str, width: int = 120) -> str:
    """An SVG of the lines, commands in green; lines over `width` characters are cut."""
    lines = [line if len(line) <= width else line[: width - 1] + "…" for line in text.rstrip().splitlines()]
    wide = MARGIN * 2 + CHARACTER * max(map(len, lines))
    high = MARGIN * 2 + LINE * len(lines)
    rows = [
        f'<text x="{MARGIN}" y="{MARGIN + LINE * (n + 0.75):.0f}" fill="{COLOURS.get(line[:1], COLOURS["  "])}" '
        f'xml:space="preserve">{escape(line)}</text>'
        for n, line in enumerate(lines)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:.0f}" height="{high}" '
            'font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="13">',
            f'<rect width="{wide:.0f}" height="{high}" rx="8" fill="#0d1117"/>',
            *rows,
            "</svg>",
            "",
        ]
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(svg(sys.stdin.read()), encoding="utf-8")
