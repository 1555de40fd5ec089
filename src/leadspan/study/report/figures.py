"""Charts as PNG and SVG files, drawn by matplotlib without its global state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from leadspan.runs import replacing
from leadspan.study.report.charts import LIGHT, SHARE_AXIS, Chart, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1c2430", "#5a6675", "#e3e7ec"
TRADEOFF = ("accuracy", "retention", "cost")
"""Panels of the figure that stands for the whole, as the paper's does."""
MARKERS = ("o", "s", "^", "D", "v", "P")
"""Told apart without colour."""
AXES_INCHES = (3.9, 2.7)
LEFT_INCHES, RIGHT_INCHES, ABOVE_INCHES, BELOW_INCHES = 0.65, 0.15, 0.35, 0.6
LEGEND_ROW_INCHES = 0.21
STYLE: dict[str, Any] = {
    "font.size": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "svg.hashsalt": "leadspan",
    "svg.fonttype": "none",
}


def draw_figures(charts: Mapping[str, Chart], folder: Path) -> dict[str, Path]:
    """Draw every chart, and the three of the tradeoff side by side.

    Returns:
        The PNG of each figure by name; an SVG of the same name lies beside it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    panels = [charts[name] for name in TRADEOFF if name in charts]
    wanted = {"tradeoff": panels} if len(panels) > 1 else {}
    wanted |= {name: [chart] for name, chart in charts.items()}
    return {name: _draw(chosen, folder / f"{name}.png") for name, chosen in wanted.items()}


def _draw(charts: Sequence[Chart], path: Path) -> Path:
    import matplotlib
    from matplotlib.figure import Figure

    rows = max(math.ceil(_num_entries(chart) / 2) for chart in charts)
    below = BELOW_INCHES + LEGEND_ROW_INCHES * rows
    height = ABOVE_INCHES + AXES_INCHES[1] + below
    step = LEFT_INCHES + AXES_INCHES[0] + RIGHT_INCHES
    with matplotlib.rc_context(cast(Any, STYLE)):
        # Fixed places instead of a layout engine, which takes longer than the drawing.
        figure: Figure = Figure(figsize=(step * len(charts), height))
        for place, chart in enumerate(charts):
            left, width = (place * step + LEFT_INCHES) / (step * len(charts)), AXES_INCHES[0]
            corner = (left, below / height, width / (step * len(charts)), AXES_INCHES[1] / height)
            draw_chart(figure.add_axes(corner), chart)
        for target in (path, path.with_suffix(".svg")):
            kind = target.suffix.removeprefix(".")
            metadata = {"Date": None} if kind == "svg" else None
            with replacing(target) as temporary:
                figure.savefig(temporary, format=kind, dpi=150, metadata=metadata)
    return path


def _num_entries(chart: Chart) -> int:
    """Entries of the legend; one alone needs none."""
    count = len(chart.series) + len(chart.levels)
    return count if count > 1 else 0


def draw_chart(axes: Axes, chart: Chart) -> None:
    """Draw one chart into one pair of axes."""
    names = chart.names
    bars = [series for series in chart.series if series.mark == "bars"]
    for series in chart.series:
        if series.mark == "bars":
            _draw_bars(axes, series, bars.index(series), len(bars), bool(names))
        else:
            _draw_line(axes, series)
    for place, (label, level) in enumerate(chart.levels):
        style = ("--", ":", "-.")[place % 3]
        axes.axhline(level, color=MUTED, linewidth=1.2, linestyle=style, label=label, zorder=1)
    if names:
        axes.set_xticks(range(len(names)), names)
    elif chart.x_is_share:
        axes.set_xlim(SHARE_AXIS)
    axes.set_title(chart.title, loc="left", fontweight="bold", fontsize=10.5)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(0, max(axes.get_ylim()[1], 1.05 * _largest(chart)))
    if _num_entries(chart):
        # Below the axes, where it can hide no value.
        corner = (0.5, -(BELOW_INCHES - 0.08) / AXES_INCHES[1])
        axes.legend(frameon=False, fontsize=8.5, loc="upper center", bbox_to_anchor=corner, ncols=2)


def _draw_line(axes: Axes, series: Series) -> None:
    x, y, label = series.x, series.y, series.label
    colour = LIGHT[series.colour % len(LIGHT)]
    if series.mark == "dashed":
        axes.plot(x, y, color=MUTED, linestyle=":", linewidth=1.2, label=label)
    elif series.mark == "star":
        axes.scatter(x, y, marker="*", s=190, color=colour, zorder=4, label=label)
    else:
        axes.errorbar(
            x,
            y,
            yerr=series.error_lengths(),
            color=colour,
            linestyle="none" if series.mark == "points" else "-",
            marker=MARKERS[series.colour % len(MARKERS)],
            markersize=4.5,
            linewidth=1.8,
            elinewidth=1.1,
            capsize=2.5,
            label=label,
        )


def _draw_bars(axes: Axes, series: Series, place: int, count: int, is_named: bool) -> None:
    if is_named:
        width = 0.66 / count
        shift = (place - (count - 1) / 2) * width
        x = [index + shift for index in range(len(series.x))]
    else:
        x = [float(value) for value in series.x]
        width = 0.9 / max(1, len(x))
    axes.bar(
        x,
        series.y,
        width=width,
        color=LIGHT[series.colour % len(LIGHT)],
        yerr=series.error_lengths(),
        error_kw={"elinewidth": 1.1, "capsize": 2.5, "ecolor": INK},
        label=series.label,
    )


def _largest(chart: Chart) -> float:
    values = [value for series in chart.series for value in series.y]
    return max([*values, *(level for _, level in chart.levels)], default=1.0)
