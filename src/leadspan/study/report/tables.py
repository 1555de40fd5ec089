"""The report's tables, as text cells that Markdown and HTML show alike. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leadspan.study.report.charts import Chart, name_of
from leadspan.study.report.summary import Group, Summary
from leadspan.study.report.wording import (
    COST_LABELS,
    say_count,
    say_estimate,
    say_extra,
    say_large,
    say_lsp,
    say_number,
    say_sections,
    say_setting,
)
from leadspan.study.results import Run, mean_of


@dataclass(frozen=True, slots=True)
class Table:
    """Cells ready to be shown; a table without rows is left out."""

    name: str
    """For anchors and tests."""
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def build_tables(summary: Summary) -> dict[str, Table]:
    """Every table that has something to show, by name, in the report's order."""
    tables = (
        tradeoff_table(summary),
        sections_table(summary),
        halves_table(summary),
        prompt_table(summary),
        others_table(summary),
        models_table(summary),
        benchmarks_table(summary),
        frontier_table(summary),
        predicted_table(summary),
        survival_table(summary.datasets),
        advice_table(summary.datasets),
        runs_table(summary.runs),
        failed_table(summary),
    )
    return {table.name: table for table in tables if table.rows}


def tradeoff_table(summary: Summary) -> Table:
    """Accuracy, retention and cost ratios over lsp, other series below the main one."""
    usual = summary.curve[0] if summary.curve else None
    rows = []
    for curve in (summary.curve, *summary.other_curves):
        for group in curve:
            mark = " ★" if group is summary.recommended else ""
            rows.append(
                (
                    f"{say_lsp(group.lsp)}{mark}",
                    _series(group, usual),
                    str(group.num_seeds),
                    say_estimate(group.accuracy),
                    say_estimate(group.retention),
                    say_number(group.closed_fraction),
                    say_number(group.train_loss, 3),
                    say_number(group.val_loss, 3),
                    say_number(group.ratios.train_seconds),
                    say_number(group.ratios.peak_memory_gib),
                    say_number(group.ratios.peak_step_memory_gib),
                    say_number(group.ratios.train_flops),
                )
            )
    return Table(
        "tradeoff",
        "What a cut costs and saves",
        (
            "lsp",
            "scored",
            "seeds",
            "accuracy",
            "retention",
            "closed",
            "train loss",
            "val loss",
            "time ×",
            "memory ×",
            "step memory ×",
            "FLOPs ×",
        ),
        tuple(rows),
        "Means over seeds with 95 % intervals over seeds and problems. Retention and × are against "
        "lsp 1.0 of the same scored sections. Closed: share of answers whose think block ended. "
        "★: the recommended cut.",
    )


def sections_table(summary: Summary) -> Table:
    """Section ablation at lsp 1.0."""
    rows = tuple(
        (
            say_sections(group.setting.sections),
            str(group.num_seeds),
            say_estimate(group.accuracy),
            say_number(group.closed_fraction),
            say_number(group.train_loss, 3),
            say_number(group.val_loss, 3),
            say_large(group.costs.tokens_scored),
            say_number(group.costs.train_seconds, 1),
        )
        for group in summary.sections
    )
    return Table(
        "sections",
        "Section ablation (lsp 1.0)",
        (
            "scored",
            "seeds",
            "accuracy",
            "closed",
            "train loss",
            "val loss",
            "tokens scored",
            "seconds",
        ),
        rows,
        "All of the sequence is in context; the loss is taken on the named sections alone, so losses of "
        "different sections are means over different tokens.",
    )


def halves_table(summary: Summary) -> Table:
    """Lead, middle and tail half."""
    rows = tuple(
        (
            group.setting.keep,
            str(group.num_seeds),
            say_estimate(group.accuracy),
            say_estimate(group.retention),
            say_number(group.closed_fraction),
            say_number(group.train_loss, 3),
            say_number(group.val_loss, 3),
            say_large(group.costs.tokens_forwarded),
        )
        for group in summary.halves
    )
    scored = say_sections(summary.halves[0].setting.sections) if summary.halves else ""
    return Table(
        "halves",
        f"Lead, middle and tail half ({scored} scored)",
        (
            "kept",
            "seeds",
            "accuracy",
            "retention",
            "closed",
            "train loss",
            "val loss",
            "tokens forwarded",
        ),
        rows,
        "Training and validation loss are those of the kept half itself.",
    )


def prompt_table(summary: Summary) -> Table:
    """The paper's own P+CoT+A beside the sweep's sections, at lsp 0.5 and 1.0."""
    rows = [
        (
            say_sections(half.setting.sections),
            f"{half.num_seeds} / {full.num_seeds}",
            say_estimate(half.accuracy),
            say_estimate(full.accuracy),
            say_estimate(half.retention),
            say_number(half.closed_fraction),
            say_number(full.closed_fraction),
        )
        for half, full in summary.pairs
    ]
    return Table(
        "prompt",
        "Scoring the prompt too",
        (
            "scored",
            "seeds 0.5 / 1.0",
            "accuracy 0.5",
            "accuracy 1.0",
            "retention",
            "closed 0.5",
            "closed 1.0",
        ),
        tuple(rows) if len(rows) > 1 else (),
        "P+CoT+A is the setting of the paper's own lsp runs. Where prompts hold what nobody can predict "
        "(random digits, names), scoring them spends a small student's capacity on noise, and the more "
        "so the shorter the cut, which is why the sweep over lsp scores "
        f"{say_sections(summary.curve[0].setting.sections) if summary.curve else 'the completion'}.",
    )


def others_table(summary: Summary) -> Table:
    """Settings that are in no curve and no ablation."""
    usual = summary.curve[0] if summary.curve else None
    rows = tuple(
        (
            say_setting(group, usual),
            str(group.num_seeds),
            say_estimate(group.accuracy),
            say_estimate(group.retention),
            say_number(group.closed_fraction),
            say_number(group.ratios.train_seconds),
            say_number(group.ratios.train_flops),
        )
        for group in summary.others
    )
    return Table(
        "others",
        "Other settings",
        ("setting", "seeds", "accuracy", "retention", "closed", "time ×", "FLOPs ×"),
        rows,
        "Retention and × are against uncut runs of the same scored sections.",
    )


def models_table(summary: Summary) -> Table:
    """The untrained student and the teacher."""
    names = {"base": "untrained student", "teacher": "teacher"}
    rows = tuple(
        (
            names[run.row.kind],
            say_number(run.row.accuracy),
            _range(run.row.accuracy_low, run.row.accuracy_high),
            say_number(run.row.closed_fraction),
        )
        for kind in names
        for run in summary.models(kind)
    )
    return Table(
        "models",
        "Where the student starts and what it learns from",
        ("model", "accuracy", "95 % interval", "closed"),
        rows,
        "The interval is over problems.",
    )


def benchmarks_table(summary: Summary) -> Table:
    """Accuracy on each benchmark, where there are several."""
    groups = [(say_lsp(group.lsp), group.runs) for group in summary.curve]
    models = [
        (label, summary.models(kind))
        for kind, label in (("base", "untrained student"), ("teacher", "teacher"))
    ]
    everyone = [*groups, *models]
    names = sorted({name for _, runs in everyone for run in runs for name in run.by_benchmark})
    rows = tuple(
        (label, *(say_number(mean_of(r.by_benchmark.get(name) for r in runs)) for name in names))
        for label, runs in everyone
        if runs
    )
    return Table(
        "benchmarks",
        "Accuracy on each benchmark",
        ("lsp", *names),
        rows if len(names) > 1 else (),
        "Means over seeds. Accuracy elsewhere is the mean over these.",
    )


def frontier_table(summary: Summary) -> Table:
    """Settings that no other beats in accuracy at the same or a lower cost."""
    usual = summary.curve[0] if summary.curve else None
    rows = tuple(
        (
            f"{say_lsp(group.lsp)}{' ★' if group is summary.recommended else ''}",
            _series(group, usual),
            group.setting.keep,
            say_estimate(group.accuracy),
            say_large(getattr(group.costs, summary.cost_name or "train_flops")),
            say_number(getattr(group.ratios, summary.cost_name or "train_flops")),
        )
        for group in summary.frontier
    )
    cost = {"train_flops": "FLOPs", "train_seconds": "seconds"}.get(
        summary.cost_name or "", "tokens forwarded"
    )
    return Table(
        "frontier",
        "Settings on the Pareto frontier",
        ("lsp", "scored", "kept", "accuracy", cost, f"{cost} ×"),
        rows,
        "Settings that no other beats in mean accuracy at the same or a lower cost. "
        "★: the recommended cut.",
    )


def predicted_table(summary: Summary) -> Table:
    """Foretold and measured shares of full cost, and by how much they are apart."""
    rows = tuple(
        (
            say_lsp(found.lsp),
            COST_LABELS[found.cost_name],
            say_number(found.predicted),
            say_number(found.measured),
            f"{found.measured / found.predicted - 1:+.0%}" if found.predicted else say_number(None),
        )
        for found in summary.predictions
    )
    return Table(
        "predicted",
        "Predicted against measured",
        ("lsp", "cost", "predicted ×", "measured ×", "off by"),
        rows,
        "Shares of the cost of lsp 1.0.",
    )


def survival_table(datasets: Sequence[Mapping[str, Any]]) -> Table:
    """Share of traces whose first derivation survives each cut, a column a dataset."""
    found = [dataset for dataset in datasets if dataset.get("survival")]
    by_lsp = [{float(lsp): share for lsp, share in d["survival"].items()} for d in found]
    lsps = sorted({lsp for shares in by_lsp for lsp in shares})
    return Table(
        "survival",
        "Whose derivation survives",
        ("lsp", *(name_of(dataset) for dataset in found)),
        tuple((say_lsp(lsp), *(say_number(shares.get(lsp)) for shares in by_lsp)) for lsp in lsps),
        "Share of the traces with a known first derivation that a cut at this lsp keeps whole.",
    )


def advice_table(datasets: Sequence[Mapping[str, Any]]) -> Table:
    """What the analysis counted and advises, a row a dataset."""
    rows = []
    for dataset in datasets:
        counts, advice = dataset.get("counts") or {}, dataset.get("advice") or {}
        lsp = advice.get("recommended_lsp")
        is_ok = advice.get("fractional_cut_ok") and lsp is not None
        said = f"cut at lsp {say_lsp(lsp)}" if is_ok else "no fractional cut"
        rows.append(
            (
                name_of(dataset),
                ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in counts.items()),
                say_number(_median(dataset.get("fractions") or ())),
                said if "fractional_cut_ok" in advice else say_number(None),
                "; ".join(str(reason).rstrip(".") for reason in advice.get("reasons") or ()),
            )
        )
    return Table(
        "advice",
        "What the analysis advises",
        ("traces", "counts", "median place", "advice", "reasons"),
        tuple(rows),
        "Median place: of the first derivation, as a share of the sequence. From the traces alone, "
        "before anything is trained.",
    )


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


RUN_COLUMNS = (
    "run",
    "kind",
    "status",
    "lsp",
    "scored",
    "kept",
    "seed",
    "accuracy",
    "95 % interval",
    "closed",
    "train loss",
    "val loss",
    "seconds",
    "memory GiB",
    "step GiB",
    "FLOPs",
    "tokens forwarded",
    "tokens scored",
)


def runs_table(runs: Iterable[Run]) -> Table:
    """Every run, a row each."""
    return Table("runs", "Every run", RUN_COLUMNS, tuple(run_cells(run) for run in runs))


def run_cells(run: Run) -> tuple[str, ...]:
    """One run's cells under RUN_COLUMNS."""
    row = run.row
    is_trained = row.kind == "train"
    return (
        row.run,
        row.kind,
        row.status,
        say_lsp(row.lsp),
        say_sections(row.sections) if row.sections else say_number(None),
        row.keep if row.keep else say_number(None),
        str(row.seed) if is_trained and row.seed is not None else say_number(None),
        say_number(row.accuracy, 3),
        _range(row.accuracy_low, row.accuracy_high),
        say_number(row.closed_fraction),
        say_number(row.train_loss, 3),
        say_number(row.val_loss, 3),
        say_number(row.train_seconds, 1),
        say_number(row.peak_memory_gib, 3),
        say_number(row.peak_step_memory_gib, 3),
        say_large(row.train_flops),
        say_large(row.tokens_forwarded),
        say_large(row.tokens_scored),
    )


def failed_table(summary: Summary) -> Table:
    """What failed and why, and what has not finished."""
    rows = [(run.row.run, "failed", run.error or "") for run in summary.failed]
    rows += [(name, "unfinished", "neither finished nor failed yet") for name in summary.unfinished]
    return Table(
        "failed",
        "Without a result",
        ("run", "status", "reason"),
        tuple(rows),
        f"{say_count(len(rows), 'run')} of {len(summary.runs) + len(summary.unfinished)}. "
        "They are in no mean above.",
    )


def chart_table(chart: Chart) -> Table:
    """The numbers of one chart, for those who cannot see it."""
    rows = []
    for series in chart.series:
        for place, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
            low = series.low[place] if series.low else None
            high = series.high[place] if series.high else None
            shown = x if isinstance(x, str) else f"{x:.3g}"
            rows.append((series.label, shown, say_number(y, 3), _range(low, high)))
    rows += [
        (label, "all", say_number(level, 3), say_number(None)) for label, level in chart.levels
    ]
    columns = ("series", chart.x_label, chart.y_label, "95 % interval")
    has_intervals = any(row[3] != say_number(None) for row in rows)
    width = len(columns) if has_intervals else len(columns) - 1
    return Table(
        chart.name, chart.title, columns[:width], tuple(row[:width] for row in rows), chart.caption
    )


def _series(group: Group, usual: Group | None) -> str:
    extra = say_extra(group, usual)
    sections = say_sections(group.setting.sections)
    return f"{sections}, {extra}" if extra else sections


def _range(low: float | None, high: float | None) -> str:
    return say_number(None) if low is None or high is None else f"[{low:.2f}, {high:.2f}]"


def _lsp(item: tuple[str, Any]) -> float:
    return float(item[0])
