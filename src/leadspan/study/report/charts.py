"""What each figure shows: numbers, labels and captions, drawn alike by matplotlib and by plotly. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from leadspan.study.report.interval import Estimate
from leadspan.study.report.summary import FULL, PAPER_RETENTION, Group, Summary
from leadspan.study.report.wording import (
    COST_LABELS,
    say_count,
    say_estimate,
    say_extra,
    say_lsp,
    say_number,
    say_sections,
    say_setting,
    slug,
)

SHARE_AXIS = (0.0, 1.05)
"""An axis of shares, with room for the marks at 1."""
BINS = 20
"""Bins of the derivation histogram, each a twentieth of the sequence."""


@dataclass(frozen=True, slots=True)
class Series:
    """One entry of a legend."""

    label: str
    x: tuple[float | str, ...]
    y: tuple[float, ...]
    low: tuple[float | None, ...] = ()
    """Lower ends of the intervals; empty where there are none."""
    high: tuple[float | None, ...] = ()
    hover: tuple[str, ...] = ()
    colour: int = 0
    """Place in the palette."""
    mark: Literal["line", "points", "bars", "dashed", "star"] = "line"


@dataclass(frozen=True, slots=True)
class Chart:
    """One figure."""

    name: str
    title: str
    caption: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    levels: tuple[tuple[str, float], ...] = ()
    """Horizontal reference lines and their names."""
    x_is_share: bool = False
    """The x axis runs from 0 to 1."""


def names_of(chart: Chart) -> list[str]:
    """The places of a chart whose x axis holds names, in order; empty where it holds numbers."""
    values = (value for series in chart.series for value in series.x)
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
        *(derivation_chart(dataset) for dataset in summary.datasets),
    )
    return {chart.name: chart for chart in charts if chart.series}


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
            label = f"{_label(groups[0], usual)} scored"
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


def sections_chart(summary: Summary) -> Chart:
    """Accuracy of each section setting."""
    groups = [group for group in summary.sections if group.accuracy is not None]
    labels = [say_sections(group.setting.sections) for group in groups]
    return Chart(
        "sections",
        "Accuracy by scored sections",
        "Accuracy when the loss is taken on the named sections alone, everything in context (lsp 1.0). "
        "P prompt, CoT chain of thought, A answer.",
        "scored sections",
        "accuracy",
        (_bars("accuracy", labels, groups, 0),) if groups else (),
        _base_level(summary),
    )


def prompt_chart(summary: Summary) -> Chart:
    """The paper's P+CoT+A beside the sweep's own sections, at lsp 0.5 and 1.0."""
    series = []
    for colour, (half, full) in enumerate(summary.pairs):
        pair = [group for group in (half, full) if group.accuracy is not None]
        names = [f"lsp {say_lsp(group.lsp)}" for group in pair]
        if pair:
            series.append(_bars(say_sections(half.setting.sections), names, pair, colour))
    return Chart(
        "prompt",
        "Scoring the prompt too",
        "Accuracy at half and at full length, with the prompt scored (P+CoT+A, the paper's own setting) "
        "and without.",
        "",
        "accuracy",
        tuple(series) if len(series) > 1 else (),
        _base_level(summary),
    )


def halves_chart(summary: Summary) -> Chart:
    """Accuracy of lead, middle and tail half."""
    groups = [group for group in summary.halves if group.accuracy is not None]
    return Chart(
        "halves",
        "Accuracy by kept half",
        "Accuracy when the lead, middle or tail half of each sequence is kept (lsp 0.5).",
        "kept half",
        "accuracy",
        (_bars("accuracy", [g.setting.keep for g in groups], groups, 0),) if groups else (),
        _base_level(summary),
    )


def halves_loss_chart(summary: Summary) -> Chart:
    """Training and validation loss of the three halves."""
    series = []
    for colour, (name, label) in enumerate(
        (("train_loss", "training loss"), ("val_loss", "validation loss"))
    ):
        groups = [group for group in summary.halves if getattr(group, name) is not None]
        if groups:
            values = tuple(float(getattr(group, name)) for group in groups)
            keeps = tuple(group.setting.keep for group in groups)
            hover = tuple(
                f"{k}: {label} {say_number(v, 3)}" for k, v in zip(keeps, values, strict=True)
            )
            series.append(Series(label, keeps, values, hover=hover, colour=colour, mark="bars"))
    return Chart(
        "halves-loss",
        "Loss of each half",
        "Training loss (last part of the training) and best validation loss of the kept half, each on "
        "its own tokens.",
        "kept half",
        "loss, nats per scored token",
        tuple(series),
    )


def predicted_chart(summary: Summary) -> Chart:
    """Measured costs against those foretold."""
    series = []
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
        else f"As planned before the training; seconds from {summary.plan_source or 'no measurement'}."
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


def derivation_chart(dataset: Mapping[str, Any]) -> Chart:
    """Where the answer is first derived, and what share of the traces keeps it at each cut."""
    name = name_of(dataset)
    fractions = [float(value) for value in dataset.get("fractions") or ()]
    series = []
    if fractions:
        counts = [0] * BINS
        for value in fractions:
            counts[min(BINS - 1, int(value * BINS))] += 1
        shares = tuple(count / len(fractions) for count in counts)
        centres = tuple((place + 0.5) / BINS for place in range(BINS))
        hover = tuple(
            f"{place / BINS:.0%} to {(place + 1) / BINS:.0%} of the sequence: {share:.0%} of traces"
            for place, share in enumerate(shares)
        )
        series.append(
            Series("first derivation here", centres, shares, hover=hover, colour=0, mark="bars")
        )
    survival = sorted(
        (float(lsp), float(share))
        for lsp, share in (dataset.get("survival") or {}).items()
        if share is not None
    )
    if survival:
        hover = tuple(f"lsp {say_lsp(k)}: {v:.0%} of derivations survive" for k, v in survival)
        lsps, kept = zip(*survival, strict=True)
        series.append(Series("derivation survives this lsp", lsps, kept, hover=hover, colour=1))
    return Chart(
        f"derivation-{slug(name)}",
        f"First derivation of the answer: {name}",
        "Bars: share of the traces whose answer is first derived at this place of the sequence. Line: "
        "share whose derivation a cut at this lsp keeps.",
        "place in the sequence, lsp",
        "share of traces",
        tuple(series),
        x_is_share=True,
    )


def name_of(dataset: Mapping[str, Any]) -> str:
    """What a dataset is called."""
    return str(dataset.get("name", "traces"))


def _bars(label: str, names: Sequence[str], groups: Sequence[Group], colour: int) -> Series:
    estimates = [group.accuracy for group in groups if group.accuracy is not None]
    hover = tuple(
        f"{name}: {say_estimate(estimate)}, {say_count(group.num_seeds, 'seed')}"
        for name, estimate, group in zip(names, estimates, groups, strict=True)
    )
    return Series(
        label,
        tuple(names),
        tuple(estimate.value for estimate in estimates),
        tuple(estimate.low for estimate in estimates),
        tuple(estimate.high for estimate in estimates),
        hover,
        colour,
        "bars",
    )


def _base_level(summary: Summary) -> tuple[tuple[str, float], ...]:
    found = [run.row.accuracy for run in summary.models("base") if run.row.accuracy is not None]
    return (("untrained student", found[0]),) if found else ()


def _label(group: Group, usual: Group | None) -> str:
    extra = say_extra(group, usual)
    sections = say_sections(group.setting.sections)
    return f"{sections} ({extra})" if extra else sections
