"""What a figure is: numbers, labels and a caption. Knows nothing about summaries or drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from leadspan.study.report.labels import Label, Range

NUM_COLORS = 6
"""Places in the palette, which `draw` has for files and templates/style.css for the page."""
SHARE_AXIS = (0.0, 1.05)
"""An axis of shares, with room for the marks at 1."""
Mark = Literal["line", "points", "bars", "dashed", "star"]


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One entry of a legend."""

    label: str
    points: pd.DataFrame
    """x (numbers or names), y, `low` and `high` (ends of the interval, NaN where not known), hover."""
    color: int = 0
    """Place in the palette."""
    mark: Mark = "line"

    def error_lengths(self) -> list[list[float]] | None:
        """Of the bars below and above; 0 where an end is not known or infinite, None without any bar."""
        ends = self.points[["low", "high"]].astype(float)
        if ends.low.isna().all():
            return None
        lengths = ends.sub(self.points.y, axis=0).abs().replace(math.inf, 0.0).fillna(0.0)
        return [lengths.low.tolist(), lengths.high.tolist()]


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """One figure."""

    name: str
    table: str
    """The name of the table above which it stands."""
    title: str
    caption: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    levels: Sequence[tuple[str, float]] = ()
    """Horizontal reference lines and their names."""
    y_in_percent: bool = False
    """The y values are shares, and read as percent."""
    x_is_share: bool = True
    """The x axis, where it holds numbers, runs from 0 to 1."""
    labels: Sequence[Label] = ()
    """Of points, on a chart whose points are to be known by name."""
    x_limits: Range | None = None
    """First and last value of the x axis; None for what `x_range` finds."""
    y_limits: Range | None = None
    """First and last value of the y axis; None for 0 and a little above the highest value."""

    @property
    def x_range(self) -> tuple[float, float]:
        """First and last value of the x axis, a little room at the ends."""
        if self.x_limits:
            return self.x_limits
        if self.names:
            return -0.5, len(self.names) - 0.5
        if self.x_is_share:
            return SHARE_AXIS
        values = [x for series in self.series for x in series.points.x]
        span = max(values) - min(values) or abs(max(values)) or 1.0
        return min(values) - 0.05 * span, max(values) + 0.05 * span

    @property
    def names(self) -> list[str]:
        """The places of an x axis that holds names, in order; empty where it holds numbers."""
        values = (x for series in self.series for x in series.points.x if isinstance(x, str))
        return list(dict.fromkeys(values))


def build_series(
    label: str,
    rows: pd.DataFrame,
    x: str,
    y: str,
    hover: Any,
    color: int = 0,
    mark: Mark = "line",
) -> Series:
    """Columns `x` and `y` of the rows where `y` is known, with the ends of its interval if it has one."""
    points = rows.reindex(columns=[x, y, f"{y}_low", f"{y}_high"])
    points = points.set_axis(["x", "y", "low", "high"], axis="columns").assign(hover=hover)
    return Series(label, points.dropna(subset="y"), color, mark)
