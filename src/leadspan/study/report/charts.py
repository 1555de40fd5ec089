"""What each figure shows: numbers, labels and a caption, drawn alike by matplotlib and by plotly. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from leadspan.study.report.settings import FULL
from leadspan.study.report.summary import PAPER_RETENTION, Summary
from leadspan.study.report.wording import (
    COST_LABELS,
    say_count,
    say_estimates,
    say_lsp,
    say_number,
)

LIGHT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DARK = ("#56B4E9", "#E69F00", "#2FC69B", "#E08CBB", "#F0E442", "#6F9FD8")
"""Colours that stay apart for colour-blind readers, on light and on dark ground: Okabe and Ito's palette
(jfly.uni-koeln.de/color), in an order in which neighbours differ in lightness too."""
SHARE_AXIS = (0.0, 1.05)
"""An axis of shares, with room for the marks at 1."""
BINS = 20
"""Bins of the derivation histogram, each a twentieth of the sequence."""

Mark = Literal["line", "points", "bars", "dashed", "star"]


@dataclass(frozen=True, slots=True)
class Series:
    """One entry of a legend."""

    label: str
    x: Sequence[float | str]
    y: Sequence[float]
    hover: Sequence[str] = ()
    colour: int = 0
    """Place in the palette."""
    mark: Mark = "line"
    low: Sequence[float] = ()
    """Lower ends of the intervals, NaN where not known; empty where there are none."""
    high: Sequence[float] = ()

    def points(self) -> Iterator[tuple[float | str, float, float, float]]:
        """x, y and the ends of the interval, point by point."""
        unknown = [math.nan] * len(self.x)
        return zip(self.x, self.y, self.low or unknown, self.high or unknown, strict=True)

    def error_lengths(self) -> list[list[float]] | None:
        """Of the bars below and above; 0 where an end is not known or infinite, None without any bar."""
        ends = np.array([[low, high] for _, _, low, high in self.points()]).T
        if not len(self.x) or np.isnan(ends[0]).all():
            return None
        lengths: list[list[float]] = np.where(
            np.isfinite(ends), abs(ends - np.array(self.y)), 0.0
        ).tolist()
        return lengths


@dataclass(frozen=True, slots=True)
class Chart:
    """One figure."""

    name: str
    title: str
    caption: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    levels: Sequence[tuple[str, float]] = ()
    """Horizontal reference lines and their names."""
    x_is_share: bool = False
    """The x axis runs from 0 to 1."""

    @property
    def names(self) -> list[str]:
        """The places of an x axis that holds names, in order; empty where it holds numbers."""
        values = (value for series in self.series for value in series.x)
        return list(dict.fromkeys(value for value in values if isinstance(value, str)))


def build_charts(summary: Summary) -> dict[str, Chart]:
    """Every chart that has something to show, by name, in the report's order."""
    charts = (
        accuracy_chart(summary),
        retention_chart(summary),
        cost_chart(summary),
        frontier_chart(summary),
        sections_chart(summary),
        prompt_chart(summary),
        halves_chart(summary),
        halves_loss_chart(summary),
        predicted_chart(summary),
        *(derivation_chart(dataset) for dataset in summary.results.datasets),
    )
    return {chart.name: chart for chart in charts if chart.series}


def estimated(
    label: str, settings: pd.DataFrame, x: pd.Series, name: str, colour: int, mark: Mark
) -> list[Series]:
    """`accuracy` or `retention` of the settings where it is known, with intervals; nothing if nowhere."""
    known = settings.dropna(subset=name)
    if known.empty:
        return []
    places = x[known.index].tolist()
    hover = [
        f"{place if isinstance(place, str) else f'lsp {say_lsp(place)}'}: {said}, {say_count(seeds, 'seed')}"
        for place, said, seeds in zip(
            places, say_estimates(known, name), known.num_seeds, strict=True
        )
    ]
    value, low, high = (known[f"{name}{end}"].tolist() for end in ("", "_low", "_high"))
    return [Series(label, places, value, hover, colour, mark, low, high)]


def _over_lsp(summary: Summary, name: str) -> list[Series]:
    return [
        series
        for colour, curve in enumerate(summary.curves)
        for series in estimated(
            f"{curve.scored.iloc[0]} scored", curve, curve.lsp, name, colour, "line"
        )
    ]


def _levels(summary: Summary, *kinds: str) -> list[tuple[str, float]]:
    labels = {"base": "untrained student", "teacher": "teacher"}
    scores = {kind: summary.accuracy_of(kind) for kind in kinds}
    return [(labels[kind], score) for kind, score in scores.items() if score is not None]


def accuracy_chart(summary: Summary) -> Chart:
    """Accuracy over lsp, with the untrained student and the teacher as lines."""
    return Chart(
        "accuracy",
        "Accuracy",
        "Mean accuracy over seeds against the share of each sequence that is kept; bars are 95 % "
        "intervals over seeds and problems.",
        "lsp",
        "accuracy",
        _over_lsp(summary, "accuracy"),
        _levels(summary, "base", "teacher"),
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
        _over_lsp(summary, "retention"),
        [(f"paper at lsp 0.5: {PAPER_RETENTION}", PAPER_RETENTION)],
        x_is_share=True,
    )


def cost_chart(summary: Summary) -> Chart:
    """Time, memory and FLOPs over lsp as shares of full sequences."""
    series = []
    for colour, name in enumerate(
        ("train_seconds", "peak_memory_gib", "peak_step_memory_gib", "train_flops")
    ):
        label, known = COST_LABELS[name], summary.curve.dropna(subset=f"{name}_ratio")
        lsps, shares = known.lsp.tolist(), known[f"{name}_ratio"].tolist()
        hover = [
            f"lsp {say_lsp(lsp)}: {share:.2f} of the {label}"
            for lsp, share in zip(lsps, shares, strict=True)
        ]
        series += [Series(label, lsps, shares, hover, colour)] if lsps else []
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
        series,
        x_is_share=True,
    )


def frontier_chart(summary: Summary) -> Chart:
    """Accuracy over cost: all settings, the frontier, the recommended point."""
    name = summary.cost_name or "train_flops"
    scored = summary.settings.dropna(subset=["accuracy", name])
    is_shares = bool(scored[f"{name}_ratio"].notna().all())
    chosen = None if summary.recommended is None else summary.recommended.Index
    parts: tuple[tuple[str, pd.DataFrame, int, Mark], ...] = (
        ("every setting", scored, 5, "points"),
        ("frontier", summary.frontier, 0, "line"),
        ("recommended", scored[scored.index == chosen], 1, "star"),
    )
    series = [
        Series(
            label,
            rows[f"{name}_ratio" if is_shares else name].tolist(),
            rows.accuracy.tolist(),
            [
                f"{setting}: {said}"
                for setting, said in zip(rows.setting, say_estimates(rows, "accuracy"), strict=True)
            ],
            colour,
            mark,
        )
        for label, rows, colour, mark in parts
        if summary.cost_name and not rows.empty
    ]
    label = COST_LABELS[name]
    return Chart(
        "frontier",
        "Pareto frontier",
        "Mean accuracy against cost. No setting on the frontier is beaten by another at the same or a "
        f"lower cost. Recommended: the smallest lsp that, like every larger one, keeps at least "
        f"{PAPER_RETENTION} of full accuracy.",
        f"{label}, share of lsp 1.0" if is_shares else label,
        "accuracy",
        series,
    )


def sections_chart(summary: Summary) -> Chart:
    """Accuracy of each section setting."""
    rows = summary.sections
    return Chart(
        "sections",
        "Accuracy by scored sections",
        "Accuracy when the loss is taken on the named sections alone, everything in context (lsp 1.0). "
        "P prompt, CoT chain of thought, A answer.",
        "scored sections",
        "accuracy",
        estimated("accuracy", rows, rows.scored, "accuracy", 0, "bars"),
        _levels(summary, "base"),
    )


def prompt_chart(summary: Summary) -> Chart:
    """The paper's P+CoT+A beside the sweep's own sections, at lsp 0.5 and 1.0."""
    series = []
    for colour, pair in enumerate(zip(*(rows.index for rows in summary.pairs), strict=True)):
        rows = summary.settings.loc[list(pair)]
        places = "lsp " + rows.lsp.map(say_lsp)
        series += estimated(rows.scored.iloc[0], rows, places, "accuracy", colour, "bars")
    return Chart(
        "prompt",
        "Scoring the prompt too",
        "Accuracy at half and at full length, with the prompt scored (P+CoT+A, the paper's own setting) "
        "and without.",
        "",
        "accuracy",
        series if len(series) > 1 else (),
        _levels(summary, "base"),
    )


def halves_chart(summary: Summary) -> Chart:
    """Accuracy of lead, middle and tail half."""
    rows = summary.halves
    return Chart(
        "halves",
        "Accuracy by kept half",
        "Accuracy when the lead, middle or tail half of each sequence is kept (lsp 0.5).",
        "kept half",
        "accuracy",
        estimated("accuracy", rows, rows.keep, "accuracy", 0, "bars"),
        _levels(summary, "base"),
    )


def halves_loss_chart(summary: Summary) -> Chart:
    """Training and validation loss of the three halves."""
    series = []
    labels = {"train_loss": "training loss", "val_loss": "validation loss"}
    for colour, (name, label) in enumerate(labels.items()):
        known = summary.halves.dropna(subset=name)
        keeps, losses = known.keep.tolist(), known[name].tolist()
        hover = [
            f"{keep}: {label} {say_number(loss, 4)}"
            for keep, loss in zip(keeps, losses, strict=True)
        ]
        series += [Series(label, keeps, losses, hover, colour, "bars")] if keeps else []
    return Chart(
        "halves-loss",
        "Loss of each half",
        "Training loss (last part of the training) and best validation loss of the kept half, each on "
        "its own tokens.",
        "kept half",
        "loss, nats per scored token",
        series,
    )


def predicted_chart(summary: Summary) -> Chart:
    """Measured costs against those foretold."""
    series: list[Series] = []
    for name, found in summary.predictions.groupby("cost_name", sort=False):
        label, x, y = COST_LABELS[name], found.predicted.tolist(), found.measured.tolist()
        hover = [
            f"lsp {say_lsp(lsp)}: {label} predicted {predicted:.2f}, measured {measured:.2f}"
            for lsp, predicted, measured in zip(found.lsp, x, y, strict=True)
        ]
        series.append(Series(label, x, y, hover, len(series), "points"))
    if series:
        series.append(Series("measured = predicted", (0.0, FULL), (0.0, FULL), mark="dashed"))
    plan = summary.results.plan
    how = (
        "Foretold from the models' sizes and the traces' lengths; seconds from "
        f"{plan.get('seconds_from') or 'no measurement'}."
        if plan
        else "Training time is foretold by the FLOPs alone, which follow from the model's sizes and the "
        "lengths of the traces."
    )
    return Chart(
        "predicted",
        "Predicted against measured cost",
        f"{how} The closer a point lies to the dashed line, the better the prediction.",
        "predicted, share of lsp 1.0",
        "measured, share of lsp 1.0",
        series,
        x_is_share=True,
    )


def derivation_chart(dataset: Mapping[str, Any]) -> Chart:
    """Where the answer is first derived, and what share of the traces keeps it at each cut."""
    name = name_of(dataset)
    series = []
    if fractions := [float(value) for value in dataset.get("fractions") or ()]:
        places = [min(BINS - 1, int(value * BINS)) for value in fractions]
        shares = (np.bincount(places, minlength=BINS) / len(fractions)).tolist()
        hover = [
            f"{place / BINS:.0%} to {(place + 1) / BINS:.0%} of the sequence: {share:.0%} of traces"
            for place, share in enumerate(shares)
        ]
        centres = [(place + 0.5) / BINS for place in range(BINS)]
        series.append(Series("first derivation here", centres, shares, hover, 0, "bars"))
    known = (dataset.get("survival") or {}).items()
    if survival := sorted((float(lsp), float(kept)) for lsp, kept in known if kept is not None):
        hover = [f"lsp {say_lsp(lsp)}: {kept:.0%} of derivations survive" for lsp, kept in survival]
        lsps, kept = zip(*survival, strict=True)
        series.append(Series("derivation survives this lsp", lsps, kept, hover, 1))
    slug = "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-")
    return Chart(
        f"derivation-{slug}",
        f"First derivation of the answer: {name}",
        "Bars: share of the traces whose answer is first derived at this place of the sequence. Line: "
        "share whose derivation a cut at this lsp keeps.",
        "place in the sequence, lsp",
        "share of traces",
        series,
        x_is_share=True,
    )


def name_of(dataset: Mapping[str, Any]) -> str:
    """What a dataset is called."""
    return str(dataset.get("name", "traces"))
