"""Each figure as numbers, labels and a caption; `draw` draws them for files and for the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from leadspan.study.report.labels import Label, Range, place_labels
from leadspan.study.report.on_policy import Family, StepMeans, families_of, step_means_of
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
from leadspan.study.report.training import Which, average_losses, settings_with_losses

NUM_COLORS = 6
"""Places in the palette, which `draw` has for files and templates/style.css for the page."""
FAMILY_COLORS = {"off-policy": 0, "on-policy": 1}
"""The same in every report, whichever of the two it has."""
SHARE_AXIS = (0.0, 1.05)
"""An axis of shares, with room for the marks at 1."""
LABELED_WIDTH = 1.45
"""Of an x axis with names, in its largest value: it begins at 0, so that equal budgets look equal."""
BINS = 20
"""Bins of the derivation histogram, each a twentieth of the sequence."""

TRADEOFF = ("accuracy", "retention", "cost")
"""Panels of the figure that stands for the whole, as the paper's does."""

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
                _series(
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
    return _series(family.name, points, "train_flops", "accuracy", hover, color, "points")


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
        costs.append(_series(label, curve, "lsp", share, hover, color))
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
        return _series(name, rows[[cost, "accuracy"]], cost, "accuracy", hover, color, mark)

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
        losses.append(_series(f"{which} loss", halves, "keep", name, hover, color, "bars"))
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
        series.append(_series(label, found, "predicted", "measured", hover, color, "points"))
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
        series.append(_series("first derivation here", bars, "place", "share", hover, mark="bars"))
    known = (dataset.get("survival") or {}).items()
    survival = sorted((float(lsp), float(kept)) for lsp, kept in known if kept is not None)
    hover = [f"lsp {say_lsp(lsp)}: {kept:.0%} of derivations survive" for lsp, kept in survival]
    line = pd.DataFrame(survival, columns=["lsp", "kept"])
    series.append(_series("derivation survives this lsp", line, "lsp", "kept", hover, 1))
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


def rollout_charts(summary: Summary) -> list[Chart]:
    """Divergence and entropy along the rollout, early and late, and over the training."""
    found = step_means_of(summary)
    drawn, left_out = _drawn(found)
    charts = []
    for kind, title, what in (
        ("kd", "Divergence", "Divergence between teacher and student, each run by its own loss,"),
        ("entropy", "Entropy", "Entropy of the student's distribution"),
    ):
        means = [(color, one) for color, one in enumerate(drawn) if one.known(kind)]
        charts += [
            Chart(
                f"{kind}-by-decile",
                "rollouts",
                f"{title} along the rollout",
                f"{what} at sampled tokens, by tenth of the rollout: marks alone over the first fifth "
                f"of the steps, lines over the last. Means over rollouts and seeds.{left_out}",
                "place in the rollout",
                "nats per token",
                [
                    _along(one, kind, moment, color)
                    for color, one in means
                    for moment in ("early", "late")
                ],
            ),
            Chart(
                f"{kind}-over-training",
                "rollouts",
                f"{title} over the training",
                f"{what} at sampled tokens, mean over the tenths of the rollouts of each twentieth of "
                f"the steps, and over seeds.{left_out}",
                "step",
                "nats per token",
                [_over_training(one, kind, color) for color, one in means],
                x_is_share=False,
            ),
        ]
    return charts


def training_charts(summary: Summary) -> list[Chart]:
    """Losses over the steps of each setting."""
    drawn, left_out = _drawn(settings_with_losses(summary))
    beside = (
        " Each loss is on the tokens that its setting keeps and scores: settings do not compare."
    )
    charts = []
    kinds: tuple[tuple[Which, str, str, str], ...] = (
        (
            "losses",
            "training-loss",
            "Training loss",
            "Training loss, mean over each twentieth of the steps",
        ),
        ("val_losses", "validation-loss", "Validation loss", "Validation loss over the training"),
    )
    for which, name, title, what in kinds:
        series = []
        for color, setting in enumerate(drawn):
            rows = average_losses(setting, which)
            hover = [
                f"{setting.setting}, step {row.step:.0f}: {row.mean:.4g}"
                for row in rows.itertuples()
            ]
            series.append(_series(setting.setting, rows, "step", "mean", hover, color))
        charts.append(
            Chart(
                name,
                "training",
                title,
                f"{what}, mean over seeds.{beside}{left_out}" if len(drawn) > 1 else f"{what}.",
                "step",
                "loss, nats per scored token",
                series,
                x_is_share=False,
            )
        )
    return charts


def _drawn(settings: list[Any]) -> tuple[list[Any], str]:
    """As many as colors tell apart, and a sentence where some are left out."""
    drawn, count = settings[:NUM_COLORS], len(settings)
    left_out = f" The first {len(drawn)} of {count} settings." if count > len(drawn) else ""
    return drawn, left_out


def _along(means: StepMeans, kind: str, moment: str, color: int) -> Series:
    values = means.by_decile(kind, moment)
    rows = pd.DataFrame({"place": (np.arange(len(values)) + 0.5) / len(values), "mean": values})
    hover = [
        f"{means.point}, {moment}, tenth {place}: {value:.3g} nats"
        for place, value in enumerate(values, 1)
    ]
    mark: Mark = "line" if moment == "late" else "points"
    return _series(f"{means.point}, {moment}", rows, "place", "mean", hover, color, mark)


def _over_training(means: StepMeans, kind: str, color: int) -> Series:
    rows = means.over_training(kind)
    hover = [
        f"{means.point}, step {row.step:.0f}: {row.mean:.3g} nats" for row in rows.itertuples()
    ]
    return _series(means.point, rows, "step", "mean", hover, color)


def _series(
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


def _estimates(
    label: str, settings: pd.DataFrame, x: str, name: str, color: int, mark: Mark = "line"
) -> Series:
    """`accuracy` or `retention` of the settings, with intervals."""
    said = settings[["at" if x == "lsp" else x, f"{name}_said", "seeds_said"]]
    hover = [f"{place}: {estimate}, {seeds}" for place, estimate, seeds in said.to_numpy()]
    return _series(label, settings, x, name, hover, color, mark)


def _diagonal(label: str) -> Series:
    ends = pd.DataFrame({"x": [0.0, FULL], "y": [0.0, FULL]})
    return _series(label, ends, "x", "y", "", mark="dashed")


def _levels(summary: Summary, *kinds: str) -> list[tuple[str, float]]:
    labels = {"base": "untrained student", "teacher": "teacher"}
    scores = {kind: summary.accuracy_of(kind) for kind in kinds}
    return [(labels[kind], score) for kind, score in scores.items() if score is not None]
