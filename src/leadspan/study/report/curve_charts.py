"""Figures over lsp or cost: accuracy, retention, cost, frontier, prediction. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from leadspan.study.report.chart import Chart, Series
from leadspan.study.report.groups import (
    FULL,
    Group,
)
from leadspan.study.report.interval import Estimate
from leadspan.study.report.summary import PAPER_RETENTION, Summary
from leadspan.study.report.wording import (
    COST_LABELS,
    say_count,
    say_estimate,
    say_lsp,
    say_series,
    say_setting,
)


def accuracy_chart(summary: Summary) -> Chart:
    """Accuracy over lsp, with the untrained student and the teacher as lines."""
    levels = [
        (label, run.row.accuracy)
        for kind, label in (("base", "untrained student"), ("teacher", "teacher"))
        for run in summary.models(kind)[:1]
        if run.row.accuracy is not None
    ]
    return Chart(
        "accuracy",
        "Accuracy",
        "Mean accuracy over seeds against the share of each sequence that is kept; bars are 95 % "
        "intervals over seeds and problems.",
        "lsp",
        "accuracy",
        _estimated_curves(summary, "accuracy"),
        tuple(levels),
        x_is_share=True,
    )


def retention_chart(summary: Summary) -> Chart:
    """Retention over lsp, with the paper's mean as a line."""
    return Chart(
        "retention",
        "Retention",
        "Accuracy as a share of that of full sequences (lsp 1.0, same scored sections). The line is the "
        f"paper's mean at lsp 0.5, {PAPER_RETENTION}.",
        "lsp",
        "share of full accuracy",
        _estimated_curves(summary, "retention"),
        ((f"paper at lsp 0.5: {PAPER_RETENTION}", PAPER_RETENTION),),
        x_is_share=True,
    )


def _estimated_curves(summary: Summary, name: str) -> tuple[Series, ...]:
    series = []
    usual = summary.curve[0] if summary.curve else None
    for place, curve in enumerate((summary.curve, *summary.other_curves)):
        groups = [group for group in curve if getattr(group, name) is not None]
        if groups:
            estimates = [getattr(group, name) for group in groups]
            label = f"{say_series(groups[0], usual)} scored"
            series.append(_with_intervals(label, groups, estimates, place))
    return tuple(series)


def _with_intervals(
    label: str, groups: Sequence[Group], estimates: Sequence[Estimate], colour: int
) -> Series:
    return Series(
        label,
        tuple(group.lsp for group in groups),
        tuple(estimate.value for estimate in estimates),
        tuple(estimate.low for estimate in estimates),
        tuple(estimate.high for estimate in estimates),
        tuple(
            f"lsp {say_lsp(group.lsp)}: {say_estimate(estimate)}, "
            f"{say_count(group.num_seeds, 'seed')}"
            for group, estimate in zip(groups, estimates, strict=True)
        ),
        colour,
    )


def cost_chart(summary: Summary) -> Chart:
    """Time, memory and FLOPs over lsp as shares of full sequences."""
    names = ("train_seconds", "peak_memory_gib", "peak_step_memory_gib", "train_flops")
    series = []
    for colour, name in enumerate(names):
        groups = [group for group in summary.curve if getattr(group.ratios, name) is not None]
        if groups:
            shares = [float(getattr(group.ratios, name)) for group in groups]
            hover = tuple(
                f"lsp {say_lsp(group.lsp)}: {share:.2f} of the {COST_LABELS[name]}"
                for group, share in zip(groups, shares, strict=True)
            )
            lsps = tuple(group.lsp for group in groups)
            series.append(
                Series(COST_LABELS[name], lsps, tuple(shares), hover=hover, colour=colour)
            )
    if series:
        series.append(Series("in proportion to lsp", (0.0, FULL), (0.0, FULL), mark="dashed"))
    return Chart(
        "cost",
        "Cost",
        "Training time, memory and FLOPs as a share of full sequences. Below the dashed line a cut saves "
        "more than its share (attention is quadratic); memory holds weights and optimiser too, which "
        "no cut touches.",
        "lsp",
        "share of full cost",
        tuple(series),
        x_is_share=True,
    )


def frontier_chart(summary: Summary) -> Chart:
    """Accuracy over cost: all settings, the frontier, the recommended point."""
    name = summary.cost_name
    groups = [g for g in summary.groups if g.accuracy is not None and name is not None]
    if name is None or not groups:
        return Chart("frontier", "", "", "", "", ())
    usual = summary.curve[0] if summary.curve else None
    is_shares = all(getattr(group.ratios, name) is not None for group in groups)

    def points(label: str, chosen: Sequence[Group], colour: int, mark: Any) -> Series:
        return Series(
            label,
            tuple(float(getattr(g.ratios if is_shares else g.costs, name)) for g in chosen),
            tuple(g.accuracy.value for g in chosen if g.accuracy is not None),
            hover=tuple(f"{say_setting(g, usual)}: {say_estimate(g.accuracy)}" for g in chosen),
            colour=colour,
            mark=mark,
        )

    series = [
        points("every setting", groups, 5, "points"),
        points("frontier", summary.frontier, 0, "line"),
    ]
    if summary.recommended is not None and summary.recommended.accuracy is not None:
        series.append(points("recommended", [summary.recommended], 1, "star"))
    label = COST_LABELS[name]
    return Chart(
        "frontier",
        "Pareto frontier",
        "Mean accuracy against cost. No setting on the frontier is beaten by another at the same or a "
        f"lower cost. Recommended: the smallest lsp that, like every larger one, keeps at least "
        f"{PAPER_RETENTION} of full accuracy.",
        f"{label}, share of lsp 1.0" if is_shares else label,
        "accuracy",
        tuple(series),
    )


def predicted_chart(summary: Summary) -> Chart:
    """Measured costs against those foretold."""
    series: list[Series] = []
    for name in dict.fromkeys(prediction.cost_name for prediction in summary.predictions):
        found = [prediction for prediction in summary.predictions if prediction.cost_name == name]
        label = COST_LABELS[name]
        hover = tuple(
            f"lsp {say_lsp(p.lsp)}: {label} predicted {p.predicted:.2f}, measured {p.measured:.2f}"
            for p in found
        )
        x, y = tuple(p.predicted for p in found), tuple(p.measured for p in found)
        series.append(Series(label, x, y, hover=hover, colour=len(series), mark="points"))
    if series:
        series.append(Series("measured = predicted", (0.0, FULL), (0.0, FULL), mark="dashed"))
    how = (
        "Training time is foretold by the FLOPs alone, which follow from the model's sizes and the "
        "lengths of the traces."
        if summary.plan_source is None
        else "Foretold from the models' sizes and the traces' lengths; seconds from "
        f"{summary.plan_source or 'no measurement'}."
    )
    return Chart(
        "predicted",
        "Predicted against measured cost",
        f"{how} The closer a point lies to the dashed line, the better the prediction.",
        "predicted, share of lsp 1.0",
        "measured, share of lsp 1.0",
        tuple(series),
        x_is_share=True,
    )
