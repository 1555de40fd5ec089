"""Charts as plotly figures. Colours are names (`@0`, `@ink`) that the page fills in for its theme. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from leadspan.study.report.chart import SHARE_AXIS, Chart, Series, names_of

SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
DASHES = ("dash", "dot", "dashdot")


def build_plotly(chart: Chart) -> dict[str, Any]:
    """`data` and `layout` of one chart; levels are traces too, so that they can be switched off."""
    names = names_of(chart)
    traces = [_trace(series, names) for series in chart.series]
    ends = _axis_range(chart, names)
    for place, (label, level) in enumerate(chart.levels):
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": label,
                "x": list(ends),
                "y": [level] * len(ends),
                "line": {"color": "@muted", "dash": DASHES[place % 3], "width": 1.5},
                "hovertemplate": f"{label}: {level:.2f}<extra></extra>",
            }
        )
    return {"data": traces, "layout": _layout(chart)}


def build_legend(chart: Chart) -> list[dict[str, str]]:
    """One entry a trace, in the traces' order: label, colour and how it is drawn."""
    entries = [
        {
            "label": series.label,
            "colour": "@muted" if series.mark == "dashed" else f"@{series.colour}",
            "mark": series.mark,
        }
        for series in chart.series
    ]
    return entries + [
        {"label": label, "colour": "@muted", "mark": "dashed"} for label, _ in chart.levels
    ]


def _trace(series: Series, names: Sequence[str]) -> dict[str, Any]:
    colour = f"@{series.colour}"
    trace: dict[str, Any] = {
        "name": series.label,
        "x": [names.index(value) if isinstance(value, str) else value for value in series.x],
        "y": list(series.y),
        "customdata": list(series.hover),
        "hovertemplate": "%{customdata}<extra></extra>"
        if series.hover
        else "%{y:.2f}<extra></extra>",
    }
    errors = _errors(series)
    if errors:
        trace["error_y"] = {**errors, "color": "@ink" if series.mark == "bars" else colour}
    if series.mark == "bars":
        return {**trace, "type": "bar", "marker": {"color": colour}}
    trace |= {"type": "scatter", "cliponaxis": False}
    if series.mark == "dashed":
        line = {"color": "@muted", "dash": "dot", "width": 1.5}
        return {**trace, "mode": "lines", "line": line, "hoverinfo": "skip", "hovertemplate": None}
    if series.mark == "star":
        return {**trace, "mode": "markers", "marker": _marker(colour, "star", 17)}
    symbol = SYMBOLS[series.colour % len(SYMBOLS)]
    mode = "markers" if series.mark == "points" else "lines+markers"
    line = {"color": colour, "width": 2.2}
    return {**trace, "mode": mode, "line": line, "marker": _marker(colour, symbol, 8)}


def _marker(colour: str, symbol: str, size: int) -> dict[str, Any]:
    return {"color": colour, "symbol": symbol, "size": size}


def _errors(series: Series) -> dict[str, Any] | None:
    if not any(low is not None for low in series.low):
        return None
    return {
        "type": "data",
        "symmetric": False,
        "array": _lengths(series.y, series.high),
        "arrayminus": _lengths(series.y, series.low),
        "thickness": 1.4,
        "width": 4,
    }


def _lengths(values: Sequence[float], ends: Sequence[float | None]) -> list[float]:
    """Of the error bars; zero where an end is not known or infinite."""
    pairs = zip(values, ends, strict=True)
    return [0.0 if b is None or math.isinf(b) else abs(b - a) for a, b in pairs]


def _axis_range(chart: Chart, names: Sequence[str]) -> tuple[float, float]:
    """First and last value of the x axis, a little room at the ends."""
    if names:
        return -0.5, len(names) - 0.5
    if chart.x_is_share:
        return SHARE_AXIS
    values = [float(value) for series in chart.series for value in series.x]
    room = 0.05 * (max(values) - min(values)) or 1.0
    return min(values) - room, max(values) + room


def _layout(chart: Chart) -> dict[str, Any]:
    names = names_of(chart)
    axis: dict[str, Any] = {
        "gridcolor": "@grid",
        "linecolor": "@muted",
        "zeroline": False,
        "automargin": True,
        "fixedrange": True,
        "tickfont": {"color": "@muted"},
    }
    title = {"font": {"size": 13, "color": "@ink"}, "standoff": 8}
    return {
        "showlegend": False,
        "height": 320,
        "margin": {"l": 52, "r": 14, "t": 12, "b": 46},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "@ink"},
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": "@panel",
            "bordercolor": "@muted",
            "font": {"color": "@ink", "size": 13},
            "align": "left",
        },
        "bargap": 0.32 if names else 0.08,
        "xaxis": {
            **axis,
            "showgrid": False,
            "title": {**title, "text": chart.x_label},
            "range": list(_axis_range(chart, names)),
            **({"tickvals": list(range(len(names))), "ticktext": names} if names else {}),
        },
        "yaxis": {**axis, "rangemode": "tozero", "title": {**title, "text": chart.y_label}},
    }
