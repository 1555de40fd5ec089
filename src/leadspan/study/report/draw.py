"""Charts by matplotlib, as PNG and SVG files; `inline` puts the same drawing into the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leadspan.runs import replacing
from leadspan.study.report.chart import Chart, Mark, Series
from leadspan.study.report.charts import TRADEOFF
from leadspan.study.report.labels import Label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIGHT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colors that stay apart for color-blind readers: Okabe and Ito's palette (jfly.uni-koeln.de/color), in an
order in which neighbors differ in lightness too.
templates/style.css has them too, and those for dark ground."""
INK, MUTED, GRID = "#1c2430", "#5a6675", "#e3e7ec"
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ((), (6, 2), (2, 1.5), (6, 2, 1.5, 2), (10, 3), (4, 1, 1, 1, 1, 1))
"""Of the lines of series, in points; with the markers, what tells them apart without color."""
LEVEL_DASHES = ((5, 3), (1.5, 2), (6, 2, 1.5, 2))
"""Of reference lines."""
IN_PROPORTION = (1.2, 2)
"""Of the line that nothing was measured for."""
WIDTH, HEIGHT = 3.9, 2.7
"""Of a pair of axes, in inches, as are the margins."""
LEFT, RIGHT, ABOVE, BELOW, LEGEND_ROW = 0.85, 0.15, 0.35, 0.6, 0.21
LARGE = 1e6
SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
MOST_IN_TWO_COLUMNS = 28
"""Characters of a name in a legend of two columns."""
STYLE: Any = {
    "font.size": 10.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "svg.fonttype": "none",
}
ERROR_BARS: dict[str, Any] = {"elinewidth": 1.1, "capsize": 2.5}
Point = tuple[int, float, float, str]
"""Entry of the legend, x, y and what the point says."""


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

    below = BELOW + LEGEND_ROW * max(
        math.ceil(_num_entries(chart) / _num_columns(chart)) for chart in charts
    )
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "leadspan"}):
        figure, panels = build_figure(len(charts), ABOVE, below)
        for axes, chart in zip(panels, charts, strict=True):
            draw_chart(axes, chart)
            axes.set_title(chart.title, loc="left", fontweight="bold", fontsize=11)
            if _num_entries(chart):
                # Below the axes, where it can hide no value.
                axes.legend(
                    frameon=False,
                    fontsize=8.5,
                    loc="upper center",
                    bbox_to_anchor=(0.5, (0.05 - BELOW) / HEIGHT),
                    ncols=_num_columns(chart),
                )
        for kind, metadata in (("png", None), ("svg", {"Date": None})):
            with replacing(path.with_suffix(f".{kind}")) as temporary:
                figure.savefig(temporary, format=kind, dpi=150, metadata=metadata)
    return path


def build_figure(num_panels: int, above: float, below: float) -> Any:
    """A figure and its panels side by side, with so many inches above and below the axes."""
    from matplotlib.figure import Figure

    width, height = num_panels * (LEFT + WIDTH + RIGHT), above + HEIGHT + below
    # Fixed places instead of a layout engine, which takes longer than the drawing.
    places = {
        "left": LEFT / width,
        "right": 1 - RIGHT / width,
        "bottom": below / height,
        "top": 1 - above / height,
        "wspace": (LEFT + RIGHT) / WIDTH,
    }
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(1, num_panels, squeeze=False, gridspec_kw=places)[0]


def _num_entries(chart: Chart) -> int:
    """Entries of the legend; one alone needs none."""
    count = len(chart.series) + len(chart.levels)
    return count if count > 1 else 0


def _num_columns(chart: Chart) -> int:
    """Of the legend: one where names are too long for two side by side."""
    names = [*(series.label for series in chart.series), *(name for name, _ in chart.levels)]
    return 2 if max(map(len, names)) <= MOST_IN_TWO_COLUMNS else 1


def draw_chart(axes: Axes, chart: Chart) -> list[Point]:
    """Draw one chart into one pair of axes; returns its points."""
    points: list[Point] = []
    bars = [series for series in chart.series if series.mark == "bars"]
    for entry, series in enumerate(chart.series):
        if series.mark == "bars":
            x = _draw_bars(axes, series, entry, bars.index(series), len(bars))
        else:
            x = _draw_line(axes, series, entry)
        found = zip(x, series.points.y, series.points.hover, strict=True)
        points += [(entry, float(x), float(y), said) for x, y, said in found]
    for place, (called, level) in enumerate(chart.levels):
        look: dict[str, Any] = {"color": MUTED, "linewidth": 1.2, "dashes": LEVEL_DASHES[place % 3]}
        line = axes.axhline(level, label=called, zorder=1, **look)
        line.set_gid(f"entry-{len(chart.series) + place}")
    if names := chart.names:
        axes.set_xticks(range(len(names)), names, fontsize=10.5 if len(names) < 5 else 8.5)
    elif chart.x_is_share or chart.x_limits:
        axes.set_xlim(chart.x_range)
    for label in chart.labels:
        _draw_label(axes, chart, label)
    _draw_frame(axes, chart)
    return points


def _draw_label(axes: Axes, chart: Chart, label: Label) -> None:
    """The name of a point, with a line to it; both belong to the first series of its color."""
    paint = LIGHT[label.color % len(LIGHT)]
    (line,) = axes.plot(
        (label.x, label.text_x), (label.y, label.text_y), color=paint, linewidth=0.7
    )
    look: dict[str, Any] = {"color": paint, "va": "center", "fontsize": 8, "zorder": 5}
    text = axes.text(label.text_x, label.text_y, f" {label.text}", **look)
    entry = [series.color for series in chart.series].index(label.color)
    for artist in (line, text):
        artist.set_gid(f"entry-{entry}")


def _draw_frame(axes: Axes, chart: Chart) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

    axes.set_xlabel(_scale_large(axes, chart))
    axes.set_ylabel(chart.y_label)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    largest = max(
        [*(s.points.y.max() for s in chart.series), *(level for _, level in chart.levels)]
    )
    axes.set_ylim(chart.y_limits or (0.0, max(axes.get_ylim()[1], 1.05 * largest)))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(
        PercentFormatter(1.0, decimals=0, symbol="")
        if chart.y_in_percent
        else FuncFormatter(lambda y, _: f"{y:g}")
    )
    axes.yaxis.set_label_coords(-0.155, 0.5)


def _scale_large(axes: Axes, chart: Chart) -> str:
    """The x axis' label; large numbers on it are divided by a power of ten, which the label says."""
    from matplotlib.ticker import FuncFormatter

    if chart.names or (largest := max(chart.x_range)) < LARGE:
        return chart.x_label
    power = math.floor(math.log10(largest))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 10**power:g}"))
    return f"{chart.x_label}, 10{str(power).translate(SUPERSCRIPT)}"


def _draw_line(axes: Axes, series: Series, entry: int) -> Sequence[float]:
    place = series.color % len(MARKERS)
    marker: dict[str, Any] = {
        "marker": MARKERS[place],
        "markersize": 4.5,
        "linewidth": 1.8,
        "linestyle": (0, DASHES[place]) if DASHES[place] else "-",
    }
    looks: dict[Mark, dict[str, Any]] = {
        "line": marker,
        "points": {**marker, "linestyle": "none"},
        "star": {"marker": "*", "markersize": 13.8, "linestyle": "none"},
        "dashed": {"color": MUTED, "linestyle": (0, IN_PROPORTION), "linewidth": 1.2},
    }
    drawn = axes.errorbar(
        series.points.x,
        series.points.y,
        yerr=series.error_lengths(),
        label=series.label,
        # The first of the legend lies on top, so that none hides what matters most.
        zorder=4.0 if series.mark == "star" else 3 - entry / 10,
        **{"color": LIGHT[series.color % len(LIGHT)], **ERROR_BARS, **looks[series.mark]},
    )
    _name_parts(drawn, entry)
    found: list[float] = series.points.x.tolist()
    return found


def _draw_bars(axes: Axes, series: Series, entry: int, place: int, count: int) -> Sequence[float]:
    x, num_bars = series.points.x, len(series.points)
    width = 0.9 / num_bars
    if isinstance(x.iloc[0], str):
        width = 0.66 / count
        x = np.arange(num_bars) + (place - (count - 1) / 2) * width
    drawn = axes.bar(
        x,
        series.points.y,
        width=width,
        color=LIGHT[series.color % len(LIGHT)],
        yerr=series.error_lengths(),
        error_kw={**ERROR_BARS, "ecolor": INK},
        label=series.label,
    )
    _name_parts(drawn, entry)
    found: list[float] = list(x)
    return found


def _name_parts(container: Any, entry: int) -> None:
    for artist in _artists_of(container):
        artist.set_gid(f"entry-{entry}")


def _artists_of(part: Any) -> Iterator[Any]:
    """Lines, caps, bars and patches of a container, which may hold containers."""
    if hasattr(part, "set_gid"):
        yield part
        return
    for each in part or ():
        yield from _artists_of(each)
    if getattr(part, "errorbar", None) is not None:
        yield from _artists_of(part.errorbar)
