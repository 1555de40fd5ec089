"""All tables of a report, as frames of text that Markdown and HTML show alike. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd

from leadspan.study.report.chart import Chart
from leadspan.study.report.on_policy import families_of, step_means_of
from leadspan.study.report.summary import (
    COST_LABELS,
    MISSING,
    Summary,
    mean_of,
    model_of,
    name_of,
    say_count,
    say_estimate,
    say_large,
    say_lsp,
    say_number,
    say_range,
    say_sections,
)
from leadspan.study.report.training_charts import settings_with_losses
from leadspan.study.results import Row, Run

STAR = " ★"
"""Marks the recommended cut."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Cells ready to be shown; a table without rows is left out."""

    name: str
    """For anchors and tests."""
    title: str
    cells: pd.DataFrame
    """Text alone."""
    note: str = ""


def build_tables(summary: Summary) -> dict[str, Table]:
    """Every table that has something to show, by name, in the report's order."""
    cells = setting_cells(summary)
    tables = (
        *(comparison_tables(summary, cells) if summary.results.is_sweep else ()),
        benchmarks_table(summary),
        rollouts_table(summary),
        training_table(summary, cells),
        runs_table(summary.results.runs),
        failed_table(summary),
    )
    return {table.name: _without_unknown(table) for table in tables if not table.cells.empty}


def _without_unknown(table: Table) -> Table:
    """Without the columns in which nothing is known."""
    return replace(table, cells=table.cells.loc[:, (table.cells != MISSING).any()])


def comparison_tables(summary: Summary, cells: pd.DataFrame) -> tuple[Table, ...]:
    """What a sweep compares, and what is known of its traces."""
    datasets = summary.results.datasets
    return (
        families_table(summary, cells),
        *setting_tables(summary, cells),
        models_table(summary),
        frontier_table(summary, cells),
        predicted_table(summary),
        survival_table(datasets),
        advice_table(datasets),
    )


def setting_cells(summary: Summary) -> pd.DataFrame:
    """Every setting in words; the tables below are rows and columns of this one."""
    settings, chosen = summary.settings, summary.recommended
    stars = {} if chosen is None else {chosen.Index: STAR}
    four = partial(say_number, digits=4)
    return pd.DataFrame(
        {
            "lsp": [
                f"{row.at.removeprefix('lsp ')}{stars.get(row.Index, '')}"
                for row in settings.itertuples()
            ],
            "scored": settings.scored,
            "kept": settings.keep,
            "setting": settings.setting,
            "seeds": settings.num_seeds.map(str),
            "accuracy": settings.accuracy_said,
            "retention": settings.retention_said,
            "closed": settings.closed_fraction.map(say_number),
            "train loss": settings.train_loss.map(four),
            "val loss": settings.val_loss.map(four),
            "time ×": settings.train_seconds_ratio.map(say_number),
            "memory ×": settings.peak_memory_gib_ratio.map(say_number),
            "step memory ×": settings.peak_step_memory_gib_ratio.map(say_number),
            "FLOPs ×": settings.train_flops_ratio.map(say_number),
            "tokens forwarded": settings.tokens_forwarded.map(say_large),
            "tokens scored": settings.tokens_scored.map(say_large),
            "seconds": settings.train_seconds.map(partial(say_number, digits=1)),
        },
        index=settings.index,
    )


def setting_tables(summary: Summary, cells: pd.DataFrame) -> tuple[Table, ...]:
    """The tradeoff, the ablations, the prompt scored or not, and what is in none of these."""
    seen = ["seeds", "accuracy", "retention", "closed"]
    losses = ["train loss", "val loss"]
    costs = ["time ×", "memory ×", "step memory ×", "FLOPs ×"]
    on_curves = [label for curve in summary.curves for label in curve.index]
    halves = summary.halves
    half_sections = "" if halves.empty else say_sections(halves.sections.iloc[0])
    return (
        Table(
            "tradeoff",
            "What a cut costs and saves",
            cells.loc[on_curves, ["lsp", "scored", *seen, *losses, *costs]],
            "Means over seeds with 95 % intervals over seeds and problems. Retention and × are against "
            "lsp 1.0 of the same scored sections. Closed: share of answers whose think block ended. "
            "★: the recommended cut.",
        ),
        Table(
            "sections",
            "Section ablation (lsp 1.0)",
            cells.loc[
                summary.sections.index,
                ["scored", "seeds", "accuracy", "closed", *losses, "tokens scored", "seconds"],
            ],
            "All of the sequence is in context; the loss is taken on the named sections alone, so losses "
            "of different sections are means over different tokens.",
        ),
        Table(
            "halves",
            f"Lead, middle and tail half ({half_sections} scored)",
            cells.loc[halves.index, ["kept", *seen, *losses, "tokens forwarded"]],
            "Training and validation loss are those of the kept half itself.",
        ),
        prompt_table(summary, cells),
        Table(
            "others",
            "Other settings",
            cells.loc[summary.others.index, ["setting", *seen, "time ×", "FLOPs ×"]],
            "Retention and × are against uncut runs of the same scored sections.",
        ),
    )


def prompt_table(summary: Summary, cells: pd.DataFrame) -> Table:
    """The paper's own P+CoT+A beside the sweep's sections, at lsp 0.5 and 1.0."""
    half, full = (
        cells.loc[[pair.index[place] for pair in summary.pairs]].reset_index() for place in (0, 1)
    )
    paired = {
        "scored": half.scored,
        "seeds 0.5 / 1.0": half.seeds + " / " + full.seeds,
        "accuracy 0.5": half.accuracy,
        "accuracy 1.0": full.accuracy,
        "retention": half.retention,
        "closed 0.5": half.closed,
        "closed 1.0": full.closed,
    }
    usual = (
        "the completion" if summary.curve.empty else say_sections(summary.curve.sections.iloc[0])
    )
    return Table(
        "prompt",
        "Scoring the prompt too",
        pd.DataFrame(paired),
        "P+CoT+A is the setting of the paper's own lsp runs. Where prompts hold what nobody can predict "
        "(random digits, names), scoring them can spend a small student's capacity on noise, and the more "
        f"so the shorter the cut, which is why the sweep over lsp scores {usual}.",
    )


def families_table(summary: Summary, cells: pd.DataFrame) -> Table:
    """Every point of the two families, the cheapest first."""
    families = families_of(summary)
    both = () if families is None else families.both
    rows = pd.concat([summary.settings[:0], *(family.points for family in both)])
    rows = rows.sort_values("train_flops", kind="stable")
    names = {label: family.name for family in both for label in family.points.index}
    on_frontier = () if families is None else families.frontier.index
    found = pd.DataFrame(
        {
            "setting": rows.point,
            "family": [names[label] for label in rows.index],
            "seeds": cells.seeds[rows.index],
            "accuracy": cells.accuracy[rows.index],
            "FLOPs": rows.train_flops.map(say_large),
            "frontier": ["yes" if label in on_frontier else MISSING for label in rows.index],
        }
    )
    note = "" if families is None else f"{families.sentence}. Means are compared, not intervals."
    return Table("families", "Off-policy leads and on-policy horizons", found, note)


def rollouts_table(summary: Summary) -> Table:
    """Divergence and entropy of the first and the last tenth of the rollout, early and late."""
    rows = []
    for means in step_means_of(summary):
        cells = [means.point]
        for kind in ("kd", "entropy"):
            for moment in ("early", "late"):
                values = means.by_decile(kind, moment) if means.known(kind) else [math.nan]
                cells.append(f"{say_number(values[0], 3)} / {say_number(values[-1], 3)}")
        rows.append(cells)
    columns = ["setting", "divergence early", "divergence late", "entropy early", "entropy late"]
    return Table(
        "rollouts",
        "Along the rollout, early and late in training",
        pd.DataFrame(rows, columns=columns),
        "First / last tenth of the rollout, in nats per token; early and late are the first and the last "
        "fifth of the steps. Divergences of different kinds are not comparable.",
    )


def training_table(summary: Summary, cells: pd.DataFrame) -> Table:
    """Where the losses ended and how long it took, of settings whose losses are drawn."""
    rows = [row.Index for row in settings_with_losses(summary)]
    columns = ["setting", "seeds", "train loss", "val loss", "tokens scored", "seconds"]
    return Table(
        "training",
        "Training",
        cells.loc[rows, columns],
        "Train loss: mean over the last part of the training. Val loss: the best.",
    )


def frontier_table(summary: Summary, cells: pd.DataFrame) -> Table:
    """Settings that no other beats in accuracy at the same or a lower cost."""
    name, rows = summary.cost_name or "train_flops", summary.frontier
    cost = {"train_flops": "FLOPs", "train_seconds": "seconds"}.get(name, "tokens forwarded")
    costs = {cost: rows[name].map(say_large), f"{cost} ×": rows[f"{name}_ratio"].map(say_number)}
    return Table(
        "frontier",
        "Settings on the Pareto frontier",
        cells.loc[rows.index, ["lsp", "scored", "kept", "accuracy"]].assign(**costs),
        "Settings that no other beats in mean accuracy at the same or a lower cost. "
        "★: the recommended cut.",
    )


def predicted_table(summary: Summary) -> Table:
    """Predicted and measured shares of full cost, and by how much they are apart."""
    found = summary.predictions
    cells = pd.DataFrame(
        {
            "lsp": found.lsp.map(say_lsp),
            "cost": found.cost_name.map(COST_LABELS),
            "predicted ×": found.predicted.map(say_number),
            "measured ×": found.measured.map(say_number),
            "off by": [
                f"{measured / predicted - 1:+.0%}" if predicted else MISSING
                for predicted, measured in zip(found.predicted, found.measured, strict=True)
            ],
        }
    )
    return Table("predicted", "Predicted against measured", cells, "Shares of the cost of lsp 1.0.")


def _models(summary: Summary) -> list[tuple[str, Run]]:
    """Every reference model with what it is, and its name where there are several of a kind."""
    labelled = []
    for kind, part, label in (
        ("base", "student", "untrained student"),
        ("teacher", "teacher", "teacher"),
    ):
        runs = summary.models(kind)
        names = [f"{label} {model_of(run, part)}" if len(runs) > 1 else label for run in runs]
        labelled += list(zip(names, runs, strict=True))
    return labelled


def models_table(summary: Summary) -> Table:
    """The untrained students and the teachers."""
    rows = [
        (
            label,
            say_number(run.row.accuracy),
            say_range(run.row.accuracy_low, run.row.accuracy_high),
            say_number(run.row.closed_fraction),
        )
        for label, run in _models(summary)
    ]
    return Table(
        "models",
        "Where the student starts and what it learns from",
        pd.DataFrame(rows, columns=["model", "accuracy", "95 % interval", "closed"]),
        "The interval is over problems.",
    )


def benchmarks_table(summary: Summary) -> Table:
    """Accuracy on each benchmark, where there are several."""
    everyone = [(say_lsp(point.lsp), point.runs) for point in summary.curve.itertuples()]
    everyone += [(label, (run,)) for label, run in _models(summary)]
    names = sorted({name for _, runs in everyone for run in runs for name in run.by_benchmark})
    rows = [
        (
            label,
            *(say_number(mean_of(run.by_benchmark.get(name) for run in runs)) for name in names),
        )
        for label, runs in everyone
    ]
    return Table(
        "benchmarks",
        "Accuracy on each benchmark",
        pd.DataFrame(rows if len(names) > 1 else [], columns=["lsp", *names]),
        "Means over seeds. Accuracy elsewhere is the mean over these.",
    )


RUN_CELLS: dict[str, Callable[[Row], str]] = {
    "run": lambda row: row.run,
    "kind": lambda row: row.kind,
    "status": lambda row: row.status,
    "lsp": lambda row: say_lsp(row.lsp),
    "scored": lambda row: say_sections(row.sections),
    "kept": lambda row: row.keep or MISSING,
    "seed": lambda row: say_number(row.seed, 0),
    "accuracy": lambda row: say_number(row.accuracy, 3),
    "95 % interval": lambda row: say_range(row.accuracy_low, row.accuracy_high),
    "closed": lambda row: say_number(row.closed_fraction),
    "train loss": lambda row: say_number(row.train_loss, 4),
    "val loss": lambda row: say_number(row.val_loss, 4),
    "seconds": lambda row: say_number(row.train_seconds, 1),
    "memory GiB": lambda row: say_number(row.peak_memory_gib, 3),
    "step GiB": lambda row: say_number(row.peak_step_memory_gib, 3),
    "FLOPs": lambda row: say_large(row.train_flops),
    "tokens forwarded": lambda row: say_large(row.tokens_forwarded),
    "tokens scored": lambda row: say_large(row.tokens_scored),
}


def runs_table(runs: Sequence[Run]) -> Table:
    """Every run, a row each."""
    rows = [[say(run.row) for say in RUN_CELLS.values()] for run in runs]
    return Table("runs", "Every run", pd.DataFrame(rows, columns=list(RUN_CELLS)))


def failed_table(summary: Summary) -> Table:
    """What failed and why, and what has not finished."""
    unfinished = summary.results.unfinished
    rows = [(run.row.run, "failed", run.error or "") for run in summary.failed]
    rows += [(name, "unfinished", "neither finished nor failed yet") for name in unfinished]
    return Table(
        "failed",
        "Without a result",
        pd.DataFrame(rows, columns=["run", "status", "reason"]),
        f"{say_count(len(rows), 'run')} of {len(summary.results.runs) + len(unfinished)}. "
        "They are in no mean above.",
    )


def survival_table(datasets: Sequence[Mapping[str, Any]]) -> Table:
    """Share of traces whose first derivation survives each cut, a column a dataset."""
    found = [dataset for dataset in datasets if dataset.get("survival")]
    ends = [dataset.get("survival_interval") or {} for dataset in found]
    by_lsp = [
        {
            float(lsp): say_estimate(share, *(known.get(lsp) or (None, None)))
            for lsp, share in shares
        }
        for shares, known in zip((d["survival"].items() for d in found), ends, strict=True)
    ]
    lsps = sorted({lsp for shares in by_lsp for lsp in shares})
    rows = [(say_lsp(lsp), *(shares.get(lsp, MISSING) for shares in by_lsp)) for lsp in lsps]
    return Table(
        "survival",
        "Whose derivation survives",
        pd.DataFrame(rows, columns=["lsp", *map(name_of, found)]),
        "Share of the traces with a known first derivation that a cut at this lsp keeps whole, with "
        "its 95 % interval.",
    )


def advice_table(datasets: Sequence[Mapping[str, Any]]) -> Table:
    """What the analysis counted and advises, a row a dataset."""
    rows = []
    for dataset in datasets:
        counts, advice = dataset.get("counts") or {}, dataset.get("advice") or {}
        fractions, lsp = dataset.get("fractions"), advice.get("recommended_lsp")
        is_ok = advice.get("fractional_cut_ok")
        said = "too few to tell" if is_ok is None else "no fractional cut"
        said = f"cut at lsp {say_lsp(lsp)}" if is_ok and lsp is not None else said
        rows.append(
            (
                name_of(dataset),
                ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in counts.items()),
                say_number(statistics.median(fractions) if fractions else None),
                "; ".join(str(reason).rstrip(".") for reason in advice.get("reasons") or ()),
                said if "fractional_cut_ok" in advice else MISSING,
            )
        )
    return Table(
        "advice",
        "What the analysis advises",
        pd.DataFrame(rows, columns=["traces", "counts", "median place", "reasons", "advice"]),
        "Median place: of the first derivation, as a share of the sequence. From the traces alone, "
        "before anything is trained.",
    )


def chart_table(chart: Chart) -> Table:
    """The numbers of one chart, for those who cannot see it."""
    rows = [
        (
            series.label,
            p.x if isinstance(p.x, str) else f"{p.x:.3g}",
            f"{p.y:.4g}",
            say_range(p.low, p.high),
        )
        for series in chart.series
        for p in series.points.itertuples()
    ]
    rows += [(label, "all", say_number(level, 3), MISSING) for label, level in chart.levels]
    columns = ["series", chart.x_label, chart.y_label, "95 % interval"]
    cells = pd.DataFrame(rows, columns=columns)
    if all(row[3] == MISSING for row in rows):
        cells = cells.iloc[:, :3]
    return Table(chart.name, chart.title, cells, chart.caption)
