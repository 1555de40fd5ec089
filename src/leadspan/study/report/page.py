"""The report as one self-contained HTML file: nothing is fetched when it is opened.

Text from traces reaches the page escaped, as template text or as JSON that the page's script sets as text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from leadspan.study.report.charts import DARK, LIGHT, SHARE_AXIS, Chart
from leadspan.study.report.headline import build_tiles, headline, say_tags
from leadspan.study.report.samples import read_shown_samples
from leadspan.study.report.settings import flatten
from leadspan.study.report.summary import HALF, Summary, find_lsp
from leadspan.study.report.tables import Table, chart_table, runs_table
from leadspan.study.results import Run

FEWEST, MOST, MOST_ON_PAGE = 2, 12, 1200
"""Samples a run and on the whole page, so that a sweep of hundreds of runs still opens."""
PARTS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "tradeoff",
        "The tradeoff",
        ("accuracy", "retention", "cost"),
        ("tradeoff", "others", "models", "benchmarks"),
    ),
    ("frontier", "Which cut to take", ("frontier", "predicted"), ("frontier", "predicted")),
    ("sections", "Which sections are scored", ("sections", "prompt"), ("sections", "prompt")),
    ("halves", "Which half is kept", ("halves", "halves-loss"), ("halves",)),
)
"""Sections of the page: name, title, the charts and the tables that belong together."""


def write_page(summary: Summary, tables: Mapping[str, Table], charts: Mapping[str, Chart]) -> str:
    """The text of report.html."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=PackageLoader("leadspan.study.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    runs = summary.results.runs
    num_shown = max(FEWEST, min(MOST, MOST_ON_PAGE // max(1, len(runs))))
    samples = {run.row.run: read_shown_samples(run, num_shown) for run in runs}
    samples = {name: shown for name, shown in samples.items() if shown}
    run_cells = runs_table(runs).cells
    return environment.get_template("report.html.j2").render(
        headline=headline(summary),
        tags=" · ".join(say_tags(summary)),
        tiles=build_tiles(summary),
        parts=_parts(tables, charts),
        tables=tables,
        charts=charts,
        chart_tables={name: chart_table(chart) for name, chart in charts.items()},
        run_columns=list(run_cells),
        runs=[
            {"run": run, "cells": cells, "diff": diff, "has_samples": run.row.run in samples}
            for run, cells, diff in zip(
                runs, run_cells.itertuples(index=False), differences(runs), strict=True
            )
        ],
        failed=tables.get("failed"),
        figures={name: chart_data(chart) for name, chart in charts.items()},
        samples=samples,
        first_sample=_first_sample(summary, samples),
        num_shown=num_shown,
        palettes={"light": LIGHT, "dark": DARK},
        plotly=Markup(get_plotlyjs()),
    )


def chart_data(chart: Chart) -> dict[str, Any]:
    """A chart as the page's script hands it to plotly; names on the x axis become their places."""
    names = chart.names
    return {
        "names": names,
        "range": _axis_range(chart),
        "x_label": chart.x_label,
        "y_label": chart.y_label,
        "levels": list(chart.levels),
        "series": [
            {
                "label": series.label,
                "mark": series.mark,
                "colour": series.colour,
                "x": [names.index(x) if isinstance(x, str) else x for x in series.x],
                "y": list(series.y),
                "hover": list(series.hover),
                "errors": series.error_lengths(),
            }
            for series in chart.series
        ],
    }


def _axis_range(chart: Chart) -> tuple[float, float]:
    """First and last value of the x axis, a little room at the ends."""
    if chart.names:
        return -0.5, len(chart.names) - 0.5
    if chart.x_is_share:
        return SHARE_AXIS
    values = [float(value) for series in chart.series for value in series.x]
    room = 0.05 * (max(values) - min(values)) or 1.0
    return min(values) - room, max(values) + room


def _first_sample(summary: Summary, samples: Mapping[str, Any]) -> str:
    """The run whose samples are open at first: one whose cut can be seen, where there is one."""
    rows = (find_lsp(summary.curve, HALF), summary.recommended, summary.reference)
    shown = next((row for row in rows if row is not None), None)
    wanted = [run.row.run for run in shown.runs] if shown is not None else []
    return next((name for name in [*wanted, *samples] if name in samples), "")


def differences(runs: Sequence[Run]) -> list[list[tuple[str, str, str]]]:
    """For each run: key, usual value, its own value, where its config is not the usual one."""
    flats = [
        {key: _say_value(value) for key, value in flatten(run.config).items()}
        if run.row.kind == "train"
        else None
        for run in runs
    ]
    trained = [flat for flat in flats if flat is not None]
    usual = {
        key: Counter(flat.get(key, "null") for flat in trained).most_common(1)[0][0]
        for key in sorted({key for flat in trained for key in flat})
    }
    return [
        []
        if flat is None
        else [
            (key, value, mine)
            for key, value in usual.items()
            if (mine := flat.get(key, "null")) != value
        ]
        for flat in flats
    ]


def _say_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_say_value, value)) + "]"
    return "null" if value is None else str(value)


def _parts(tables: Mapping[str, Table], charts: Mapping[str, Chart]) -> list[tuple[Any, ...]]:
    """The sections of the page that have something to show."""
    derivations = tuple(name for name in charts if name.startswith("derivation-"))
    last = ("derivation", "Where the answer is derived", derivations, ("survival", "advice"))
    return [
        (name, title, [c for c in of_charts if c in charts], [t for t in of_tables if t in tables])
        for name, title, of_charts, of_tables in (*PARTS, last)
        if charts.keys() & of_charts or tables.keys() & of_tables
    ]
