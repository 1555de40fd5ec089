"""The figures of a report: which there are, what each shows and says. `draw` draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from leadspan.study.report.chart import Chart, Mark, Series, build_series
from leadspan.study.report.labels import place_labels
from leadspan.study.report.on_policy import Family, families_of
from leadspan.study.report.summary import (
    COST_LABELS,
    FULL,
    PAPER_RETENTION,
    Summary,
    name_of,
    say_lsp,
    say_number,
    say_percent,
)
from leadspan.study.report.training_charts import rollout_charts, training_charts

FAMILY_COLORS = {"off-policy": 0, "on-policy": 1}
"""The same in every report, whichever of the two it has."""
LABELED_WIDTH = 1.45
"""Of an x axis with names, in its largest value: it begins at 0, so that equal budgets look equal."""
BINS = 20
"""Bins of the derivation histogram, each a twentieth of the sequence."""

TRADEOFF = ("accuracy", "retention", "cost")
"""Panels of the figure that stands for the whole, as the paper's does."""


def build_charts(summary: Summary) -> dict[str, Chart]:
    """Every chart that has something to show, by name, in the report's order."""
    charts = (
        *(comparison_charts(summary) if summary.results.is_sweep else ()),
        *rollout_charts(summary),
        *training_charts(summary),
    )
    known = [
        replace(chart, series=[each for each in chart.series if len(each.points)])
        for chart in charts
    ]
    return {chart.name: chart for chart in known if any(s.mark != "dashed" for s in chart.series)}


def comparison_charts(summary: Summary) -> list[Chart]:
    """What a sweep compares, and where its traces derive their answer."""
    return [
        *families_charts(summary),
        *curve_charts(summary),
        *([frontier_chart(summary, summary.cost_name)] if summary.cost_name else ()),
        *ablation_charts(summary),
        predicted_chart(summary),
        *map(derivation_chart, summary.results.datasets),
    ]


def families_charts(summary: Summary) -> list[Chart]:
    """Off-policy and on-policy in one plot, where there are on-policy runs."""
    families = families_of(summary)
    if families is None:
        return []
    shown = [family for family in families.both if len(family.points)]
    ends = pd.concat([family.points for family in shown])[
        ["accuracy", "accuracy_low", "accuracy_high"]
    ]
    low = max(0.0, math.floor(10 * float(ends.min(axis=None)) - 0.5) / 10)
    points = [
        (row.train_flops, row.accuracy, row.point, FAMILY_COLORS[family.name])
        for family in shown
        for row in family.points.itertuples()
    ]
    x_limits = 0.0, LABELED_WIDTH * max(flops for flops, *_ in points)
    y_limits = low, low + 1.05 * ((float(ends.max(axis=None)) - low) or 1.0)
    return [
        Chart(
            "families",
            "families",
            "Accuracy by training cost",
            f"Mean accuracy with its 95 % interval against all FLOPs of the training, teacher and rollouts "
            f"included. {families.sentence}. The dotted line is the frontier over both.",
            "training FLOPs, teacher and rollouts included",
            "accuracy",
            [
                *map(_family_series, shown),
                build_series(
                    "frontier",
                    families.frontier[["train_flops", "accuracy"]],
                    "train_flops",
                    "accuracy",
                    "",
                    mark="dashed",
                ),
            ],
            x_is_share=False,
            labels=place_labels(points, x_limits, y_limits),
            x_limits=x_limits,
            y_limits=y_limits,
        )
    ]


def _family_series(family: Family) -> Series:
    points, color = family.points, FAMILY_COLORS[family.name]
    hover = points.point + ": " + points.accuracy_said + ", " + points.seeds_said
    return build_series(family.name, points, "train_flops", "accuracy", hover, color, "points")


def curve_charts(summary: Summary) -> list[Chart]:
    """Accuracy, retention and cost over lsp."""
    accuracy, retention = (
        [
            _estimates(f"{curve.scored.iloc[0]} scored", curve, "lsp", name, color)
            for color, curve in enumerate(summary.curves)
        ]
        for name in ("accuracy", "retention")
    )
    curve, costs = summary.curve, []
    for color, name in enumerate(
        ("train_seconds", "peak_memory_gib", "peak_step_memory_gib", "train_flops")
    ):
        label, share = COST_LABELS[name], f"{name}_ratio"
        shares = curve[["at", share]].to_numpy()
        hover = [f"{at}: {say_percent(value)} of the {label}" for at, value in shares]
        costs.append(build_series(label, curve, "lsp", share, hover, color))
    return [
        Chart(
            "accuracy",
            "tradeoff",
            "Accuracy",
            "Mean accuracy over seeds against the share of each sequence that is kept; bars are 95 % "
            "intervals over seeds and problems.",
            "lsp",
            "accuracy",
            accuracy,
            _levels(summary, "base", "teacher"),
        ),
        Chart(
            "retention",
            "tradeoff",
            "Retention",
            "Accuracy as a share of that of full sequences (lsp 1.0, same scored sections). The line is "
            f"the paper's mean at lsp 0.5, {say_percent(PAPER_RETENTION)}.",
            "lsp",
            "accuracy, % of full sequences",
            retention,
            [(f"paper at lsp 0.5: {say_percent(PAPER_RETENTION)}", PAPER_RETENTION)],
            y_in_percent=True,
        ),
        Chart(
            "cost",
            "tradeoff",
            "Cost",
            "Training time, memory and FLOPs as a share of full sequences. Below the dotted line a cut "
            "saves more than its share (attention is quadratic); memory holds weights and optimizer too, "
            "which no cut touches.",
            "lsp",
            "cost, % of full sequences",
            [*costs, _diagonal("in proportion to lsp")],
            y_in_percent=True,
        ),
    ]


def frontier_chart(summary: Summary, cost_name: str) -> Chart:
    """Accuracy over cost: all settings, the frontier, the recommended point."""
    scored = summary.settings.dropna(subset=["accuracy", cost_name])
    is_shares = bool(scored[f"{cost_name}_ratio"].notna().all())
    cost, label = f"{cost_name}_ratio" if is_shares else cost_name, COST_LABELS[cost_name]
    chosen = None if summary.recommended is None else summary.recommended.Index

    def part(name: str, rows: pd.DataFrame, color: int, mark: Mark) -> Series:
        hover = rows.setting + ": " + rows.accuracy_said
        return build_series(name, rows[[cost, "accuracy"]], cost, "accuracy", hover, color, mark)

    return Chart(
        "frontier",
        "frontier",
        "Pareto frontier",
        "Mean accuracy against cost. No setting on the frontier is beaten by another at the same or a "
        f"lower cost. Recommended: the smallest lsp that, like every larger one, keeps at least "
        f"{say_percent(PAPER_RETENTION)} of full accuracy.",
        f"{label}, share of lsp 1.0" if is_shares else label,
        "accuracy",
        [
            part("every setting", scored, 5, "points"),
            part("frontier", summary.frontier, 0, "line"),
            part("recommended", scored[scored.index == chosen], 1, "star"),
        ],
        x_limits=(0.0, 1.05 * float(scored[cost].max())),
    )


def ablation_charts(summary: Summary) -> list[Chart]:
    """Settings side by side: sections, the prompt scored or not, the kept halves."""
    base, halves = _levels(summary, "base"), summary.halves
    losses = []
    for color, (which, name) in enumerate((("training", "train_loss"), ("validation", "val_loss"))):
        values = halves[["keep", name]].to_numpy()
        hover = [f"{keep}: {which} loss {say_number(loss, 4)}" for keep, loss in values]
        losses.append(build_series(f"{which} loss", halves, "keep", name, hover, color, "bars"))
    return [
        Chart(
            "sections",
            "sections",
            "Accuracy by scored sections",
            "Accuracy when the loss is taken on the named sections alone, everything in context (lsp "
            "1.0). P prompt, CoT chain of thought, A answer.",
            "scored sections",
            "accuracy",
            [_estimates("accuracy", summary.sections, "scored", "accuracy", 0, "bars")],
            base,
        ),
        Chart(
            "prompt",
            "prompt",
            "Scoring the prompt too",
            "Accuracy at half and at full length, with the prompt scored (P+CoT+A, the paper's own "
            "setting) and without.",
            "",
            "accuracy",
            [
                _estimates(pair.scored.iloc[0], pair, "at", "accuracy", color, "bars")
                for color, pair in enumerate(summary.pairs)
            ],
            base,
        ),
        Chart(
            "halves",
            "halves",
            "Accuracy by kept half",
            "Accuracy when the lead, middle or tail half of each sequence is kept (lsp 0.5).",
            "kept half",
            "accuracy",
            [_estimates("accuracy", halves, "keep", "accuracy", 0, "bars")],
            base,
        ),
        Chart(
            "halves-loss",
            "halves",
            "Loss of each half",
            "Training loss (last part of the training) and best validation loss of the kept half, each "
            "on its own tokens.",
            "kept half",
            "loss, nats per scored token",
            losses,
        ),
    ]


def predicted_chart(summary: Summary) -> Chart:
    """Measured costs against the predicted ones."""
    series = []
    for color, (name, found) in enumerate(summary.predictions.groupby("cost_name", sort=False)):
        label = COST_LABELS[name]
        hover = [
            f"lsp {say_lsp(row.lsp)}: {label} predicted {row.predicted:.2f}, measured {row.measured:.2f}"
            for row in found.itertuples()
        ]
        series.append(build_series(label, found, "predicted", "measured", hover, color, "points"))
    plan = summary.results.plan
    how = (
        "Predicted from the models' sizes and the traces' lengths; seconds from "
        f"{plan.get('seconds_from') or 'no measurement'}."
        if plan
        else "Training time is predicted from the FLOPs alone, which follow from the model's sizes and the "
        "lengths of the traces."
    )
    return Chart(
        "predicted",
        "predicted",
        "Predicted against measured cost",
        f"{how} The closer a point lies to the dotted line, the better the prediction.",
        "predicted, share of lsp 1.0",
        "measured, share of lsp 1.0",
        [*series, _diagonal("measured = predicted")],
    )


def derivation_chart(dataset: Mapping[str, Any]) -> Chart:
    """Where the answer is first derived, and what share of the traces keeps it at each cut."""
    name, series = name_of(dataset), []
    if fractions := [float(value) for value in dataset.get("fractions") or ()]:
        places = np.minimum((np.array(fractions) * BINS).astype(int), BINS - 1)
        shares = np.bincount(places, minlength=BINS) / len(fractions)
        bars = pd.DataFrame({"place": (np.arange(BINS) + 0.5) / BINS, "share": shares})
        hover = [
            f"{place / BINS:.0%} to {(place + 1) / BINS:.0%} of the sequence: {share:.0%} of traces"
            for place, share in enumerate(shares)
        ]
        series.append(
            build_series("first derivation here", bars, "place", "share", hover, mark="bars")
        )
    known = (dataset.get("survival") or {}).items()
    survival = sorted((float(lsp), float(kept)) for lsp, kept in known if kept is not None)
    hover = [f"lsp {say_lsp(lsp)}: {kept:.0%} of derivations survive" for lsp, kept in survival]
    line = pd.DataFrame(survival, columns=["lsp", "kept"])
    series.append(build_series("derivation survives this lsp", line, "lsp", "kept", hover, 1))
    slug = "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-")
    return Chart(
        f"derivation-{slug}",
        "survival",
        f"First derivation of the answer: {name}",
        "Bars: share of the traces whose answer is first derived at this place of the sequence. Line: "
        "share whose derivation a cut at this lsp keeps.",
        "place in the sequence, lsp",
        "traces, %",
        series,
        y_in_percent=True,
    )


def _estimates(
    label: str, settings: pd.DataFrame, x: str, name: str, color: int, mark: Mark = "line"
) -> Series:
    """`accuracy` or `retention` of the settings, with intervals."""
    said = settings[["at" if x == "lsp" else x, f"{name}_said", "seeds_said"]]
    hover = [f"{place}: {estimate}, {seeds}" for place, estimate, seeds in said.to_numpy()]
    return build_series(label, settings, x, name, hover, color, mark)


def _diagonal(label: str) -> Series:
    ends = pd.DataFrame({"x": [0.0, FULL], "y": [0.0, FULL]})
    return build_series(label, ends, "x", "y", "", mark="dashed")


def _levels(summary: Summary, *kinds: str) -> list[tuple[str, float]]:
    labels = {"base": "untrained student", "teacher": "teacher"}
    scores = {kind: summary.accuracy_of(kind) for kind in kinds}
    return [(labels[kind], score) for kind, score in scores.items() if score is not None]
