"""The report as one self-contained HTML file: nothing is fetched when it is opened.

Text from traces reaches the page escaped, as template text or as JSON that the page's script sets as text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence as SequenceABC
from dataclasses import asdict
from itertools import compress, groupby
from typing import Any

import numpy as np

from leadspan.config import OF_THE_TRACE, TruncationConfig
from leadspan.config_io import validate
from leadspan.errors import LeadspanError
from leadspan.evaluation.samples import iter_samples
from leadspan.records import Sequence, Span
from leadspan.study.report.charts import DARK, LIGHT, Chart
from leadspan.study.report.summary import HALF, Summary, find_lsp, flatten
from leadspan.study.report.tables import Table, chart_table, runs_table
from leadspan.study.report.text import build_tiles, headline, say_tags
from leadspan.study.results import Run, outcome_of
from leadspan.traces.cut import Cut

LONGEST = 6000
"""Characters of one text that are shown; what is left out is counted."""
UNIT = re.compile(r"</?[\w|]+>|<\|\w+\|>|.", re.DOTALL)
CLOSE = re.compile(r"</\w+>|<\|end_of_thought\|>")

Part = tuple[str, str]
"""Kind (kept, dropped or gap) and text."""


def read_shown_samples(run: Run, count: int) -> list[dict[str, Any]]:
    """Some samples of one run in the file's order: half correct and half not, if there are so many."""
    path, cut = run.path / "evaluation" / "samples.jsonl", _cut_of(run)
    # Read twice, so that no more than the chosen ones are ever held.
    chosen = _choose([outcome_of(sample) == "correct" for sample in iter_samples(path)], count)
    return [
        _show(sample, cut) for place, sample in enumerate(iter_samples(path)) if place in chosen
    ]


def _choose(is_correct: list[bool], count: int) -> set[int]:
    """Places of the first `count // 2` of either kind; more of one where the other is short."""
    correct = [place for place, found in enumerate(is_correct) if found]
    others = [place for place, found in enumerate(is_correct) if not found]
    half = count // 2
    return {
        *correct[: max(half, count - len(others))],
        *others[: max(half, count - len(correct))],
    }


def _cut_of(run: Run) -> Cut | None:
    """The run's truncation; None where it is none, differs from trace to trace, or moves."""
    try:
        config = validate(TruncationConfig, run.config.get("truncation") or {}, "truncation")
    except LeadspanError:
        return None
    cut = Cut(config)
    if run.row.kind != "train" or config.policy in OF_THE_TRACE or cut.moves:
        return None
    return cut


def _show(sample: Mapping[str, Any], cut: Cut | None) -> dict[str, Any]:
    text, prompt = str(sample.get("text") or ""), str(sample.get("prompt") or "")
    return {
        "benchmark": str(sample.get("benchmark", "")),
        "problem": str(sample.get("problem_id", "")),
        "sample": sample.get("sample", 0),
        "outcome": outcome_of(sample),
        "tokens": sample.get("num_tokens"),
        "finish": str(sample.get("finish_reason", "")),
        "seconds": sample.get("seconds"),
        "gold": ", ".join(str(gold) for gold in sample.get("golds") or []),
        "extracted": str(sample.get("extracted") or ""),
        "reason": str(sample.get("reason") or ""),
        "prompt": shorten([("kept", prompt)]),
        "text": shorten(mark_cut(sample, text, cut)),
    }


def mark_cut(sample: Mapping[str, Any], text: str, cut: Cut | None) -> list[Part]:
    """The answer in runs of what the cut would have kept and dropped."""
    num_prompt, num_tokens = sample.get("prompt_tokens"), sample.get("num_tokens")
    if cut is None or not text or not num_tokens or num_prompt is None:
        return [("kept", text)]
    units = UNIT.findall(text)
    num_of_text = max(1, num_tokens - (sample.get("finish_reason") == "stop"))
    closing = CLOSE.search(text)
    thought = len(UNIT.findall(text[: closing.end()])) if closing else len(units)
    end_of_cot = num_prompt + round(num_of_text * thought / len(units))
    num_all = num_prompt + num_tokens
    sequence = Sequence(
        "sample",
        np.arange(num_all, dtype=np.int32),
        Span(0, num_prompt),
        Span(num_prompt, end_of_cot),
        Span(end_of_cot, num_all),
    )
    kept = set(cut.apply(sequence).input_ids_T.tolist())
    marked = [
        ("kept" if num_prompt + place * num_of_text // len(units) in kept else "dropped", unit)
        for place, unit in enumerate(units)
    ]
    return [
        (kind, "".join(unit for _, unit in parts))
        for kind, parts in groupby(marked, key=lambda part: part[0])
    ]


def shorten(parts: list[Part]) -> list[Part]:
    """Take the middle out of a long text, and say how much."""
    total = sum(len(text) for _, text in parts)
    if total <= LONGEST:
        return parts
    first, last = 2 * LONGEST // 3, total - LONGEST // 3
    found: list[Part] = []
    start = 0
    for kind, text in parts:
        end = start + len(text)
        if start < first:
            found.append((kind, text[: first - start]))
        if start <= first < end:
            found.append(("gap", f"… {last - first:,} characters more …"))
        if end > last:
            found.append((kind, text[max(0, last - start) :]))
        start = end
    return [(kind, text) for kind, text in found if text]


FEWEST, MOST, MOST_ON_PAGE = 2, 12, 1200
"""Samples a run and on the whole page, so that a sweep of hundreds of runs still opens."""
PARTS = (
    ("families", "On-policy or off-policy", ("families",)),
    ("tradeoff", "The tradeoff", ("tradeoff", "others", "models", "benchmarks")),
    ("frontier", "Which cut to take", ("frontier", "predicted")),
    ("sections", "Which sections are scored", ("sections", "prompt")),
    ("halves", "Which half is kept", ("halves",)),
    ("derivation", "Where the answer is derived", ("survival", "advice")),
    ("rollouts", "What the student wrote", ("rollouts",)),
)
"""Sections of the page: name, title, and the tables that belong together, below their charts."""


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
        chart_table=chart_table,
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
        "range": chart.x_range,
        "y_limits": chart.y_limits,
        "x_label": chart.x_label,
        "y_label": chart.y_label,
        "levels": list(chart.levels),
        "labels": [asdict(label) for label in chart.labels],
        "series": [
            {
                "label": series.label,
                "mark": series.mark,
                "color": series.color,
                "x": [names.index(x) if isinstance(x, str) else x for x in series.points.x],
                "y": series.points.y.tolist(),
                "hover": series.points.hover.tolist(),
                "errors": series.error_lengths(),
            }
            for series in chart.series
        ],
    }


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


def _parts(tables: Mapping[str, Table], charts: Mapping[str, Chart]) -> list[tuple[Any, ...]]:
    """The sections of the page that have something to show: name, title, charts, tables."""
    parts = [
        (
            name,
            title,
            [chart for chart in charts.values() if chart.table in names],
            [tables[each] for each in names if each in tables],
        )
        for name, title, names in PARTS
    ]
    return [part for part in parts if part[2] or part[3]]
