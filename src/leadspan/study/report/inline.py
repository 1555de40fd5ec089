"""Charts inside the page: matplotlib's drawing as an SVG element, its legend as entries to switch.

The page's style sheet gives the colors, so that one drawing serves light and dark ground.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from leadspan.study.report.chart import Chart, Series
from leadspan.study.report.draw import (
    BELOW,
    DASHES,
    GRID,
    IN_PROPORTION,
    INK,
    LEVEL_DASHES,
    LIGHT,
    MUTED,
    STYLE,
    build_figure,
    draw_chart,
)

VARIABLES = {
    **{color.lower(): f"--c{place}" for place, color in enumerate(LIGHT)},
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
}
"""Colors as matplotlib writes them, and the style sheet's variables for them."""
ABOVE = 0.15
"""Inches above the axes: title and legend stand outside the drawing."""
ENTRY = re.compile(r'<g id="entry-(\d+)"')
LEFT_OUT = re.compile(
    r"<metadata>.*?</metadata>|<style.*?</style>| id=\"[a-z.]+(?:2d)?_\d+\"|font-family: [^;]*; ",
    re.DOTALL,
)
"""What would reach beyond the element: names that the page's other figures have too, styles and fonts."""
SHAPES = (
    "M9 5a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
    "M9 2h6v6h-6z",
    "M12 1.5l3.5 6.5h-7z",
    "M12 1l4 4l-4 4l-4-4z",
    "M12 8.5l3.5-6.5h-7z",
    "M11 1h2v3h3v2h-3v3h-2v-3h-3v-2h3z",
)
"""Paths of `draw.MARKERS` in a box of 24 by 10."""
STAR = "M12 0l1.4 3.5h3.6l-2.9 2.2l1.1 3.8l-3.2-2.3l-3.2 2.3l1.1-3.8l-2.9-2.2h3.6z"
BAR = "M7 0h10v10h-10z"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a legend, as the page shows it."""

    label: str
    variable: str
    """Of the style sheet, for its color."""
    dashes: Sequence[float] | None = ()
    """Of its line, none where it is solid; None where it has no line."""
    shape: str = ""
    """Path of its mark, empty where it has none."""


def build_legend(chart: Chart) -> list[Entry]:
    """Series, then reference lines, as `draw_inline` numbers them."""
    levels = [
        Entry(label, "--muted", LEVEL_DASHES[place % len(LEVEL_DASHES)])
        for place, (label, _) in enumerate(chart.levels)
    ]
    return [*map(_entry_of, chart.series), *levels]


def _entry_of(series: Series) -> Entry:
    place = series.color % len(LIGHT)
    if series.mark == "dashed":
        return Entry(series.label, "--muted", IN_PROPORTION)
    dashes = DASHES[place] if series.mark == "line" else None
    shape = {"star": STAR, "bars": BAR}.get(series.mark, SHAPES[place])
    return Entry(series.label, f"--c{place}", dashes, shape)


def draw_inline(chart: Chart) -> str:
    """One chart as an SVG element.

    Groups of class `entry` and circles of class `hit` name their place in the legend as `data-entry`; the
    circles lie over the points, whose words are their `data-hover`.
    """
    import matplotlib

    out = io.StringIO()
    # What the elements refer to must be named apart from that of the page's other figures.
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": f"leadspan {chart.name}"}):
        figure, (axes,) = build_figure(1, ABOVE, BELOW)
        points = draw_chart(axes, chart)
        places = axes.transData.transform([(x, y) for _, x, y, _ in points])
        places = figure.transFigure.inverted().transform(places)
        width, height = 72 * figure.get_size_inches()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    drawn = ENTRY.sub(r'<g class="entry" data-entry="\1"', out.getvalue().rpartition("<svg ")[2])
    drawn = LEFT_OUT.sub("", drawn)
    for color, variable in VARIABLES.items():
        drawn = drawn.replace(color, f"var({variable})")
    body = drawn.partition(">")[2].rpartition("</svg>")[0]
    hits = "".join(
        f'<circle class="hit" data-entry="{entry}" cx="{x * width:.1f}" cy="{(1 - y) * height:.1f}" r="6" '
        f'data-hover="{escape(said)}"/>'
        for (entry, _, _, said), (x, y) in zip(points, places, strict=True)
        if said
    )
    return f'<svg viewBox="0 0 {width:.1f} {height:.1f}" aria-hidden="true">{body}{hits}</svg>'
