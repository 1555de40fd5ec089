"""The report as one self-contained HTML file: nothing is fetched when it is opened.

Text from traces reaches the page escaped, as template text or as JSON that the page's script sets as text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leadspan.study.report.chart import Chart
from leadspan.study.report.groups import flatten
from leadspan.study.report.interactive import build_legend, build_plotly
from leadspan.study.report.palette import DARK, LIGHT
from leadspan.study.report.run_tables import RUN_COLUMNS, run_cells
from leadspan.study.report.samples import read_shown_samples
from leadspan.study.report.summary import HALF, PAPER_RETENTION, Summary, find_lsp
from leadspan.study.report.table import Table, chart_table
from leadspan.study.report.wording import (
    MISSING,
    headline,
    say_count,
    say_estimate,
    say_lsp,
    say_number,
)
from leadspan.study.results import Run

FEWEST, MOST, MOST_ON_PAGE = 2, 12, 1200
"""Samples a run and on the whole page, so that a sweep of hundreds of runs still opens."""


@dataclass(frozen=True, slots=True)
class Part:
    """One section of the page: charts and tables that belong together."""

    name: str
    title: str
    charts: tuple[str, ...]
    tables: tuple[str, ...]


PARTS = (
    Part(
        "tradeoff",
        "The tradeoff",
        ("accuracy", "retention", "cost"),
        ("tradeoff", "others", "models", "benchmarks"),
    ),
    Part("frontier", "Which cut to take", ("frontier", "predicted"), ("frontier", "predicted")),
    Part("sections", "Which sections are scored", ("sections", "prompt"), ("sections", "prompt")),
    Part("halves", "Which half is kept", ("halves", "halves-loss"), ("halves",)),
)


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
    num_shown = max(FEWEST, min(MOST, MOST_ON_PAGE // max(1, len(summary.runs))))
    samples = {run.row.run: read_shown_samples(run, num_shown) for run in summary.runs}
    samples = {name: shown for name, shown in samples.items() if shown}
    return environment.get_template("report.html.j2").render(
        headline=headline(summary),
        tags=say_tags(summary),
        tiles=build_tiles(summary),
        parts=[part for part in _parts(charts) if _is_shown(part, tables, charts)],
        tables=tables,
        charts=charts,
        chart_tables={name: chart_table(chart) for name, chart in charts.items()},
        run_columns=RUN_COLUMNS,
        runs=build_runs(summary.runs, samples),
        failed=tables.get("failed"),
        figures={
            name: {**build_plotly(chart), "legend": build_legend(chart)}
            for name, chart in charts.items()
        },
        samples=samples,
        first_sample=_first_sample(summary, samples),
        num_shown=num_shown,
        palettes={"light": LIGHT, "dark": DARK},
        plotly=Markup(get_plotlyjs()),
    )


def say_tags(summary: Summary) -> str:
    """How much the page is about, and the sweep's labels."""
    done = sum(run.is_done for run in summary.runs)
    counted = [f"{say_count(done, 'run')} with a result"]
    counted += [f"{key.replace('_', ' ')} {value}" for key, value in summary.tags.items()]
    return " · ".join(counted)


def build_tiles(summary: Summary) -> list[tuple[str, str, str]]:
    """The figures at the top: value, what it is, what stands beside it."""
    half, full, chosen = find_lsp(summary.curve, HALF), summary.reference, summary.recommended
    tiles = []
    if half is not None and half.retention is not None:
        paper = f"paper {PAPER_RETENTION}"
        tiles.append((say_number(half.retention.value), "of full accuracy kept at lsp 0.5", paper))
    for name, label in (("train_seconds", "training time"), ("train_flops", "training FLOPs")):
        if half is not None and getattr(half.ratios, name) is not None:
            tiles.append(
                (f"{getattr(half.ratios, name):.2f} ×", f"{label} at lsp 0.5", "full 1.00")
            )
    if full is not None and full.accuracy is not None:
        beside = [
            f"{label} {say_number(run.row.accuracy)}"
            for kind, label in (("base", "untrained"), ("teacher", "teacher"))
            for run in summary.models(kind)[:1]
        ]
        tiles.append((say_number(full.accuracy.value), "accuracy at lsp 1.0", ", ".join(beside)))
    if full is not None:
        kept = say_estimate(chosen.retention) if chosen is not None else ""
        value = say_lsp(chosen.lsp) if chosen is not None else MISSING
        tiles.append((value, "recommended lsp", f"keeps {kept}" if kept else "none keeps enough"))
    return tiles


def _first_sample(summary: Summary, samples: Mapping[str, Any]) -> str:
    """The run whose samples are open at first: one whose cut can be seen, where there is one."""
    shown = find_lsp(summary.curve, HALF) or summary.recommended or summary.reference
    wanted = [run.row.run for run in shown.runs] if shown is not None else []
    return next((name for name in [*wanted, *samples] if name in samples), "")


def build_runs(runs: Sequence[Run], samples: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every run: its cells, how its config differs from the usual one, whether it has samples."""
    usual = usual_config([run for run in runs if run.row.kind == "train"])
    return [
        {
            "name": run.row.run,
            "cells": run_cells(run),
            "error": run.error,
            "diff": differences(run, usual) if run.row.kind == "train" else [],
            "is_trained": run.row.kind == "train",
            "has_samples": run.row.run in samples,
            "config_hash": run.config_hash,
        }
        for run in runs
    ]


def usual_config(runs: Sequence[Run]) -> dict[str, str]:
    """The commonest value of each config key."""
    flats = [flatten(run.config) for run in runs]
    keys = sorted({key for flat in flats for key in flat})
    return {
        key: Counter(_say_value(flat.get(key)) for flat in flats).most_common(1)[0][0]
        for key in keys
    }


def differences(run: Run, usual: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Key, usual value, this run's value, where they differ."""
    mine = flatten(run.config)
    return [
        (key, value, _say_value(mine.get(key)))
        for key, value in usual.items()
        if _say_value(mine.get(key)) != value
    ]


def _say_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_say_value, value)) + "]"
    return "null" if value is None else str(value)


def _parts(charts: Mapping[str, Chart]) -> list[Part]:
    derivations = tuple(name for name in charts if name.startswith("derivation-"))
    last = Part("derivation", "Where the answer is derived", derivations, ("survival", "advice"))
    return [*PARTS, last]


def _is_shown(part: Part, tables: Mapping[str, Table], charts: Mapping[str, Chart]) -> bool:
    return any(name in charts for name in part.charts) or any(n in tables for n in part.tables)
