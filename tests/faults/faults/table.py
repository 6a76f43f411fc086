"""Figures at the end of a campaign."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns; the first to the left, figures to the right."""
    lines = [list(head), *([f"{one}" for one in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]

    def one(line: Sequence[str]) -> str:
        first, *more = (text.rjust(width) for text, width in zip(line, widths, strict=True))
        return "  ".join([first.strip().ljust(widths[0]), *more]).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([one(lines[0]), rule, *map(one, lines[1:])])


def seconds(values: Sequence[float]) -> str:
    """The median and the worst."""
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2]:.2f} / {ordered[-1]:.2f}" if ordered else "-"
