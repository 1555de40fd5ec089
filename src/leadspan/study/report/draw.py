"""Charts as PNG and SVG, by matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leadspan.runs import replacing
from leadspan.study.report.charts import LIGHT, Chart, Mark, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, GRID = "#1c2430", "#5a6675", "#e3e7ec"
TRADEOFF = ("accuracy", "retention", "cost")
"""Panels of the figure that stands for the whole, as the paper's does."""
MARKERS = ("o", "s", "^", "D", "v", "P")
"""Told apart without color."""
WIDTH, HEIGHT = 3.9, 2.7
"""Of a pair of axes, in inches, as are the margins."""
LEFT, RIGHT, ABOVE, BELOW, LEGEND_ROW = 0.75, 0.15, 0.35, 0.6, 0.21
MOST_IN_TWO_COLUMNS = 28
"""Characters of a name in a legend of two columns."""
STYLE: Any = {
    "font.size": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "svg.hashsalt": "leadspan",
    "svg.fonttype": "none",
}
ERROR_BARS: dict[str, Any] = {"elinewidth": 1.1, "capsize": 2.5}


def draw_figures(charts: Mapping[str, Chart], folder: Path) -> dict[str, Path]:
    """Draw every chart, and the three of the tradeoff side by side.

    Returns:
        The PNG of each figure by name; an SVG of the same name lies beside it.
    """
    panels = [charts[name] for name in TRADEOFF if name in charts]
    wanted = {"tradeoff": panels} if len(panels) > 1 else {}
    wanted |= {name: [chart] for name, chart in charts.items()}
    return {name: _draw(chosen, folder / f"{name}.png") for name, chosen in wanted.items()}


def _draw(charts: Sequence[Chart], path: Path) -> Path:
    import matplotlib
    from matplotlib.figure import Figure

    below = BELOW + LEGEND_ROW * max(
        math.ceil(_num_entries(chart) / _num_columns(chart)) for chart in charts
    )
    width, height = len(charts) * (LEFT + WIDTH + RIGHT), ABOVE + HEIGHT + below
    # Fixed places instead of a layout engine, which takes longer than the drawing.
    places = {
        "left": LEFT / width,
        "right": 1 - RIGHT / width,
        "bottom": below / height,
        "top": 1 - ABOVE / height,
        "wspace": (LEFT + RIGHT) / WIDTH,
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        panels = figure.subplots(1, len(charts), squeeze=False, gridspec_kw=places)[0]
        for axes, chart in zip(panels, charts, strict=True):
            draw_chart(axes, chart)
        for kind, metadata in (("png", None), ("svg", {"Date": None})):
            with replacing(path.with_suffix(f".{kind}")) as temporary:
                figure.savefig(temporary, format=kind, dpi=150, metadata=metadata)
    return path


def _num_entries(chart: Chart) -> int:
    """Entries of the legend; one alone needs none."""
    count = len(chart.series) + len(chart.levels)
    return count if count > 1 else 0


def _num_columns(chart: Chart) -> int:
    """Of the legend: one where names are too long for two side by side."""
    names = [*(series.label for series in chart.series), *(name for name, _ in chart.levels)]
    return 2 if max(map(len, names)) <= MOST_IN_TWO_COLUMNS else 1


def draw_chart(axes: Axes, chart: Chart) -> None:
    """Draw one chart into one pair of axes."""
    bars = [series for series in chart.series if series.mark == "bars"]
    for series in chart.series:
        if series.mark == "bars":
            _draw_bars(axes, series, bars.index(series), len(bars))
        else:
            _draw_line(axes, series)
    for place, (called, level) in enumerate(chart.levels):
        style = ("--", ":", "-.")[place % 3]
        axes.axhline(level, color=MUTED, linewidth=1.2, linestyle=style, label=called, zorder=1)
    if names := chart.names:
        axes.set_xticks(range(len(names)), names)
    elif chart.x_is_share or chart.x_limits:
        axes.set_xlim(chart.x_range)
    for point in chart.labels:
        paint = LIGHT[point.color % len(LIGHT)]
        axes.plot((point.x, point.text_x), (point.y, point.text_y), color=paint, linewidth=0.7)
        axes.text(
            point.text_x,
            point.text_y,
            f" {point.text}",
            color=paint,
            va="center",
            fontsize=8,
            zorder=5,
        )
    axes.set_title(chart.title, loc="left", fontweight="bold", fontsize=10.5)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    largest = max(
        [*(s.points.y.max() for s in chart.series), *(level for _, level in chart.levels)]
    )
    axes.set_ylim(chart.y_limits or (0.0, max(axes.get_ylim()[1], 1.05 * largest)))
    if _num_entries(chart):
        # Below the axes, where it can hide no value.
        corner = (0.5, (0.08 - BELOW) / HEIGHT)
        axes.legend(
            frameon=False,
            fontsize=8.5,
            loc="upper center",
            bbox_to_anchor=corner,
            ncols=_num_columns(chart),
        )


def _draw_line(axes: Axes, series: Series) -> None:
    marker: dict[str, Any] = {
        "marker": MARKERS[series.color % len(MARKERS)],
        "markersize": 4.5,
        "linewidth": 1.8,
    }
    looks: dict[Mark, dict[str, Any]] = {
        "line": marker,
        "points": {**marker, "linestyle": "none"},
        "star": {"marker": "*", "markersize": 13.8, "linestyle": "none", "zorder": 4},
        "dashed": {"color": MUTED, "linestyle": ":", "linewidth": 1.2},
    }
    axes.errorbar(
        series.points.x,
        series.points.y,
        yerr=series.error_lengths(),
        label=series.label,
        **{"color": LIGHT[series.color % len(LIGHT)], **ERROR_BARS, **looks[series.mark]},
    )


def _draw_bars(axes: Axes, series: Series, place: int, count: int) -> None:
    x, num_bars = series.points.x, len(series.points)
    width = 0.9 / num_bars
    if isinstance(x.iloc[0], str):
        width = 0.66 / count
        x = np.arange(num_bars) + (place - (count - 1) / 2) * width
    axes.bar(
        x,
        series.points.y,
        width=width,
        color=LIGHT[series.color % len(LIGHT)],
        yerr=series.error_lengths(),
        error_kw={**ERROR_BARS, "ecolor": INK},
        label=series.label,
    )
