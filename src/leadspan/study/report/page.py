"""The report as one self-contained HTML file: one result, one figure, the rest folded; nothing is fetched.

Text from traces reaches the page escaped, as template text or as JSON that the page's script sets as text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence as SequenceABC
from dataclasses import dataclass
from itertools import compress
from typing import Any

from markupsafe import Markup

from leadspan.study.report.chart import Chart
from leadspan.study.report.charts import TRADEOFF
from leadspan.study.report.inline import Entry, build_legend, draw_inline
from leadspan.study.report.render import render_page
from leadspan.study.report.samples import MOST, read_all_shown
from leadspan.study.report.summary import HALF, Summary, find_lsp, flatten
from leadspan.study.report.tables import RUN_CELLS, Table, chart_table
from leadspan.study.report.text import build_facts, meaning, outcome, title_of
from leadspan.study.results import Run

PARTS = (
    ("settings", "Scores and costs", ("tradeoff", "others", "models", "benchmarks")),
    ("families", "On-policy or off-policy", ("families",)),
    ("frontier", "Accuracy against cost", ("frontier", "predicted")),
    ("sections", "Which sections are scored", ("sections", "prompt")),
    ("halves", "Which half is kept", ("halves",)),
    ("derivation", "Where the answer is derived", ("survival", "advice")),
    ("rollouts", "What the student wrote", ("rollouts",)),
    ("training", "Training curves", ("training",)),
)
"""Folded parts of the page: name, title, and the tables that belong together, below their charts."""
RUN_COLUMNS = (
    "lsp",
    "scored",
    "kept",
    "seed",
    "accuracy",
    "95 % interval",
    "val loss",
    "seconds",
    "FLOPs",
)
"""What the table of runs shows at once; the rest opens below the run's name."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart as it stands in the page."""

    chart: Chart
    svg: Markup
    legend: list[Entry]


@dataclass(frozen=True, slots=True)
class Part:
    """One folded part of the page."""

    name: str
    title: str
    panels: list[Panel]
    tables: list[Table]


def write_page(summary: Summary, tables: Mapping[str, Table], charts: Mapping[str, Chart]) -> str:
    """The text of report.html."""
    runs = summary.results.runs
    samples = read_all_shown(runs)
    panels = {
        name: Panel(chart, Markup(draw_inline(chart)), build_legend(chart))
        for name, chart in charts.items()
    }
    main = _main_figure(summary, charts)
    folded = {name: panel for name, panel in panels.items() if name not in main}
    return render_page(
        "report.html.j2",
        title=title_of(summary),
        result=outcome(summary),
        meaning=meaning(summary),
        facts=build_facts(summary),
        is_sweep=summary.results.is_sweep,
        main=[panels[name] for name in main],
        parts=_parts(tables, folded),
        chart_table=chart_table,
        run_columns=RUN_COLUMNS,
        runs=[
            {"run": run, "cells": cells, "diff": diff, "has_samples": run.row.run in samples}
            for run, cells, diff in zip(
                runs,
                map(run_cells, runs),
                differences(runs),
                strict=True,
            )
        ],
        failed=tables.get("failed"),
        samples=samples,
        first_sample=_first_sample(summary, samples),
        num_shown=MOST,
    )


def _main_figure(summary: Summary, charts: Mapping[str, Chart]) -> list[str]:
    """Names of the charts that stand open at the top: what the sweep is about."""
    of_cuts = [name for name in TRADEOFF if name in charts]
    if len(summary.curve) > 1 and of_cuts:
        return of_cuts
    if "families" in charts:
        return ["families"]
    of_training = [name for name in ("training-loss", "validation-loss") if name in charts]
    return of_training or list(charts)[:1]


def run_cells(run: Run) -> dict[str, str]:
    """A run's numbers in words, with its config's hash; a failed one has no accuracy."""
    cells = {name: say(run.row) for name, say in RUN_CELLS.items()}
    if not run.is_done:
        cells["accuracy"] = run.row.status
    return cells | ({"config": run.config_hash} if run.config_hash else {})


def _first_sample(summary: Summary, samples: Mapping[str, Any]) -> str:
    """The run whose samples are open at first: one whose cut can be seen, where there is one."""
    rows = (find_lsp(summary.curve, HALF), summary.recommended, summary.reference)
    shown = next((row for row in rows if row is not None), None)
    wanted = [run.row.run for run in shown.runs] if shown is not None else []
    return next((name for name in [*wanted, *samples] if name in samples), "")


def differences(runs: SequenceABC[Run]) -> list[list[tuple[str, str, str]]]:
    """For each run: key, usual value, its own value, where its config is not the usual one."""
    flats = [{key: _say_value(value) for key, value in flatten(run.config).items()} for run in runs]
    is_trained = [run.row.kind == "train" for run in runs]
    trained = list(compress(flats, is_trained))
    usual = {
        key: Counter(flat.get(key, "null") for flat in trained).most_common(1)[0][0]
        for key in sorted({key for flat in trained for key in flat})
    }
    return [
        [
            (key, value, flat.get(key, "null"))
            for key, value in usual.items()
            if trained_here and flat.get(key, "null") != value
        ]
        for flat, trained_here in zip(flats, is_trained, strict=True)
    ]


def _say_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_say_value, value)) + "]"
    return "null" if value is None else str(value)


def _parts(tables: Mapping[str, Table], panels: Mapping[str, Panel]) -> list[Part]:
    """The parts of the page that have something to show."""
    parts = [
        Part(
            name,
            title,
            [panel for panel in panels.values() if panel.chart.table in names],
            [tables[each] for each in names if each in tables],
        )
        for name, title, names in PARTS
    ]
    return [part for part in parts if part.panels or part.tables]
