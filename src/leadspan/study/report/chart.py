"""What one figure shows: numbers, labels and a caption, drawn alike by matplotlib and by plotly. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SHARE_AXIS = (0.0, 1.05)
"""An axis of shares, with room for the marks at 1."""


@dataclass(frozen=True, slots=True)
class Series:
    """One entry of a legend."""

    label: str
    x: tuple[float | str, ...]
    y: tuple[float, ...]
    low: tuple[float | None, ...] = ()
    """Lower ends of the intervals; empty where there are none."""
    high: tuple[float | None, ...] = ()
    hover: tuple[str, ...] = ()
    colour: int = 0
    """Place in the palette."""
    mark: Literal["line", "points", "bars", "dashed", "star"] = "line"


@dataclass(frozen=True, slots=True)
class Chart:
    """One figure."""

    name: str
    title: str
    caption: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    levels: tuple[tuple[str, float], ...] = ()
    """Horizontal reference lines and their names."""
    x_is_share: bool = False
    """The x axis runs from 0 to 1."""


def names_of(chart: Chart) -> list[str]:
    """The places of a chart whose x axis holds names, in order; empty where it holds numbers."""
    values = (value for series in chart.series for value in series.x)
    return list(dict.fromkeys(value for value in values if isinstance(value, str)))
