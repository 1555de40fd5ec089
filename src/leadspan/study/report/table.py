"""A table as text cells, which Markdown and HTML show alike. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from leadspan.study.report.chart import Chart
from leadspan.study.report.wording import (
    say_number,
)


@dataclass(frozen=True, slots=True)
class Table:
    """Cells ready to be shown; a table without rows is left out."""

    name: str
    """For anchors and tests."""
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def chart_table(chart: Chart) -> Table:
    """The numbers of one chart, for those who cannot see it."""
    rows = []
    for series in chart.series:
        for place, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
            low = series.low[place] if series.low else None
            high = series.high[place] if series.high else None
            shown = x if isinstance(x, str) else f"{x:.3g}"
            rows.append((series.label, shown, f"{y:.4g}", say_range(low, high)))
    rows += [
        (label, "all", say_number(level, 3), say_number(None)) for label, level in chart.levels
    ]
    columns = ("series", chart.x_label, chart.y_label, "95 % interval")
    has_intervals = any(row[3] != say_number(None) for row in rows)
    width = len(columns) if has_intervals else len(columns) - 1
    return Table(
        chart.name, chart.title, columns[:width], tuple(row[:width] for row in rows), chart.caption
    )


def say_range(low: float | None, high: float | None) -> str:
    """An interval, or a dash."""
    if low is None or high is None:
        return say_number(None)
    return f"[{say_number(low)}, {say_number(high)}]"
