#!/usr/bin/env python3
"""
Draw how much better the post office is than each peer, from the figures of a run.

    bench/run.py --rounds 5 --plot docs/performance.svg post10 post50 steady login

measures and draws; what --json has kept is drawn again by

    bench/picture.py results.json docs/performance.svg

A bar is the ratio of the medians; the thin line goes from the worst to the best
round of ours beside the median of the peer.  The scale is logarithmic, and 1 is
a draw.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from html import escape
from pathlib import Path

from table import FIGURES

#: Of the drawing, in pixels.
LEFT, WIDTH, ROW, GAP, TOP = 390, 380, 17, 13, 58
COLOURS = ("#2f6f8f", "#c07a2c", "#5b8c5a")
#: The scale: from this ratio, by ticks.
LEAST, TICKS = 0.5, (0.5, 1, 2, 4, 8, 16)


def ratios(ours: list[float], theirs: list[float], *, more: bool) -> tuple[float, float, float]:
    """The worst, the median and the best ratio; over 1 is in our favour."""
    other = statistics.median(theirs)
    all_of_them = [one / other if more else other / one for one in ours]
    median = statistics.median(ours)
    return min(all_of_them), median / other if more else other / median, max(all_of_them)


def rows(results: dict[str, list[dict]]) -> list[tuple[str, list[tuple[str, tuple]]]]:
    """For each figure that was measured of us and a peer: its text, and the ratio to each peer."""
    ours, *peers = results
    found = []
    for name, (text, unit, more) in FIGURES.items():
        mine = [one[name] for one in results[ours] if one.get(name)]
        bars = []
        for peer in peers:
            theirs = [one[name] for one in results[peer] if one.get(name)]
            if mine and theirs:
                bars.append((peer, ratios(mine, theirs, more=more)))
        if bars:
            found.append((f"{text} ({unit})", bars))
    return found


def at(ratio: float) -> float:
    """The place of a ratio on the scale, in pixels from the left."""
    share = math.log(max(ratio, LEAST) / LEAST) / math.log(TICKS[-1] / LEAST)
    return LEFT + WIDTH * min(share, 1.0)


def _text(x: float, y: float, text: str, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" {more}>{escape(text)}</text>'


def draw(facts: dict) -> str:
    """The drawing, as SVG."""
    results = facts["results"]
    peers = list(results)[1:]
    colours = dict(zip(peers, COLOURS, strict=False))
    parts, y = [], TOP
    for text, bars in rows(results):
        height = ROW * len(bars)
        parts.append(_text(LEFT - 10, y + height / 2 + 4, text, "end"))
        for number, (peer, (worst, median, best)) in enumerate(bars):
            top, zero = y + ROW * number, at(1)
            left, right = sorted((zero, at(median)))
            parts.append(
                f'<rect x="{left:.1f}" y="{top + 2}" width="{max(right - left, 1):.1f}" '
                f'height="{ROW - 4}" fill="{colours[peer]}"/>'
                f'<line x1="{at(worst):.1f}" x2="{at(best):.1f}" y1="{top + ROW / 2}" '
                f'y2="{top + ROW / 2}" stroke="#222"/>'
            )
            parts.append(_text(max(at(best), right) + 6, top + ROW / 2 + 4, f"{median:.1f}"))
        y += height + GAP
    grid = [
        f'<line x1="{at(tick):.1f}" x2="{at(tick):.1f}" y1="{TOP - 8}" y2="{y}" '
        f'stroke="{"#222" if tick == 1 else "#ddd"}"/>'
        + _text(at(tick), TOP - 14, f"{tick}", "middle")
        for tick in TICKS
    ]
    legend, x = [], 10
    for peer in peers:
        legend.append(f'<rect x="{x}" y="12" width="12" height="12" fill="{colours[peer]}"/>')
        legend.append(_text(x + 18, 23, f"times as good as {peer}"))
        x += 60 + 7 * len(f"times as good as {peer}")
    rounds = len(results[next(iter(results))])
    what = f"{facts.get('cores')} cores, {facts.get('disk')}; medians of {rounds} rounds"
    legend.append(_text(10, y + 22, what, more='fill="#555"'))
    width, height = LEFT + WIDTH + 60, y + 34
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img"'
    title = f"How many times as good as {' and '.join(peers)} the post office is"
    style = 'font-family="sans-serif" font-size="12"'
    body = "\n".join([*grid, *parts, *legend])
    background = '<rect width="100%" height="100%" fill="white"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n'
        f"<title>{escape(title)}</title>\n{background}\n{body}\n</svg>\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="what bench/run.py --json wrote")
    parser.add_argument("drawing", type=Path, help="the SVG file to write")
    options = parser.parse_args()
    options.drawing.write_text(draw(json.loads(options.results.read_text())), encoding="utf-8")


if __name__ == "__main__":
    main()
