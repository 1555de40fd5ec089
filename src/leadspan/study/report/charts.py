"""Each figure as numbers, labels and a caption; drawn alike by matplotlib (PNG, SVG) and by plotly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from leadspan.runs import replacing
from leadspan.study.report.summary import (
    COST_LABELS,
    FULL,
    PAPER_RETENTION,
    Summary,
    name_of,
    say_lsp,
    say_number,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIGHT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DARK = ("#56B4E9", "#E69F00", "#2FC69B", "#E08CBB", "#F0E442", "#6F9FD8")
"""Colors that stay apart for color-blind readers, on light and on dark ground: Okabe and Ito's palette
(jfly.uni-koeln.de/color), in an order in which neighbors differ in lightness too."""
SHARE_AXIS = (0.0, 1.05)
"""An axis of shares, with room for the marks at 1."""
BINS = 20
"""Bins of the derivation histogram, each a twentieth of the sequence."""

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
    x_is_share: bool = True
    """The x axis, where it holds numbers, runs from 0 to 1."""

    @property
    def names(self) -> list[str]:
        """The places of an x axis that holds names, in order; empty where it holds numbers."""
        values = (x for series in self.series for x in series.points.x if isinstance(x, str))
        return list(dict.fromkeys(values))


def build_charts(summary: Summary) -> dict[str, Chart]:
    """Every chart that has something to show, by name, in the report's order."""
    charts = (
        *curve_charts(summary),
        *([frontier_chart(summary, summary.cost_name)] if summary.cost_name else ()),
        *ablation_charts(summary),
        predicted_chart(summary),
        *map(derivation_chart, summary.results.datasets),
    )
    known = [
        replace(chart, series=[each for each in chart.series if len(each.points)])
        for chart in charts
    ]
    return {chart.name: chart for chart in known if any(s.mark != "dashed" for s in chart.series)}


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
        hover = [f"{at}: {value:.2f} of the {label}" for at, value in shares]
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
            f"the paper's mean at lsp 0.5, {PAPER_RETENTION}.",
            "lsp",
            "share of full accuracy",
            retention,
            [(f"paper at lsp 0.5: {PAPER_RETENTION}", PAPER_RETENTION)],
        ),
        Chart(
            "cost",
            "tradeoff",
            "Cost",
            "Training time, memory and FLOPs as a share of full sequences. Below the dashed line a cut "
            "saves more than its share (attention is quadratic); memory holds weights and optimiser too, "
            "which no cut touches.",
            "lsp",
            "share of full cost",
            [*costs, _diagonal("in proportion to lsp")],
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
        f"{PAPER_RETENTION} of full accuracy.",
        f"{label}, share of lsp 1.0" if is_shares else label,
        "accuracy",
        [
            part("every setting", scored, 5, "points"),
            part("frontier", summary.frontier, 0, "line"),
            part("recommended", scored[scored.index == chosen], 1, "star"),
        ],
        x_is_share=False,
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
    """Measured costs against those foretold."""
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
        "Foretold from the models' sizes and the traces' lengths; seconds from "
        f"{plan.get('seconds_from') or 'no measurement'}."
        if plan
        else "Training time is foretold by the FLOPs alone, which follow from the model's sizes and the "
        "lengths of the traces."
    )
    return Chart(
        "predicted",
        "predicted",
        "Predicted against measured cost",
        f"{how} The closer a point lies to the dashed line, the better the prediction.",
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
        "share of traces",
        series,
    )


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


INK, MUTED, GRID = "#1c2430", "#5a6675", "#e3e7ec"
TRADEOFF = ("accuracy", "retention", "cost")
"""Panels of the figure that stands for the whole, as the paper's does."""
MARKERS = ("o", "s", "^", "D", "v", "P")
"""Told apart without color."""
WIDTH, HEIGHT = 3.9, 2.7
"""Of a pair of axes, in inches, as are the margins."""
LEFT, RIGHT, ABOVE, BELOW, LEGEND_ROW = 0.65, 0.15, 0.35, 0.6, 0.21
STYLE: Any = {
    "font.size": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "svg.hashsalt": "leadspan",
    "svg.fonttype": "none",
}
ERROR_BARS: dict[str, Any] = {"elinewidth": 1.1, "capsize": 2.5}


def draw_figures(charts: Mapping[str, Chart], folder: Path) -> dict[str, Path]:
    """Draw every chart, and the three of the tradeoff side by side.

    Returns:
        The PNG of each figure by name; an SVG of the same name lies beside it.
    """
    panels = [charts[name] for name in TRADEOFF if name in charts]
    wanted = {"tradeoff": panels} if len(panels) > 1 else {}
    wanted |= {name: [chart] for name, chart in charts.items()}
    return {name: _draw(chosen, folder / f"{name}.png") for name, chosen in wanted.items()}


def _draw(charts: Sequence[Chart], path: Path) -> Path:
    import matplotlib
    from matplotlib.figure import Figure

    below = BELOW + LEGEND_ROW * max(math.ceil(_num_entries(chart) / 2) for chart in charts)
    width, height = len(charts) * (LEFT + WIDTH + RIGHT), ABOVE + HEIGHT + below
    # Fixed places instead of a layout engine, which takes longer than the drawing.
    places = {
        "left": LEFT / width,
        "right": 1 - RIGHT / width,
        "bottom": below / height,
        "top": 1 - ABOVE / height,
        "wspace": (LEFT + RIGHT) / WIDTH,
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        panels = figure.subplots(1, len(charts), squeeze=False, gridspec_kw=places)[0]
        for axes, chart in zip(panels, charts, strict=True):
            draw_chart(axes, chart)
        for kind, metadata in (("png", None), ("svg", {"Date": None})):
            with replacing(path.with_suffix(f".{kind}")) as temporary:
                figure.savefig(temporary, format=kind, dpi=150, metadata=metadata)
    return path


def _num_entries(chart: Chart) -> int:
    """Entries of the legend; one alone needs none."""
    count = len(chart.series) + len(chart.levels)
    return count if count > 1 else 0


def draw_chart(axes: Axes, chart: Chart) -> None:
    """Draw one chart into one pair of axes."""
    bars = [series for series in chart.series if series.mark == "bars"]
    for series in chart.series:
        if series.mark == "bars":
            _draw_bars(axes, series, bars.index(series), len(bars))
        else:
            _draw_line(axes, series)
    for place, (label, level) in enumerate(chart.levels):
        style = ("--", ":", "-.")[place % 3]
        axes.axhline(level, color=MUTED, linewidth=1.2, linestyle=style, label=label, zorder=1)
    if names := chart.names:
        axes.set_xticks(range(len(names)), names)
    elif chart.x_is_share:
        axes.set_xlim(SHARE_AXIS)
    axes.set_title(chart.title, loc="left", fontweight="bold", fontsize=10.5)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    largest = max(
        [*(s.points.y.max() for s in chart.series), *(level for _, level in chart.levels)]
    )
    axes.set_ylim(0, max(axes.get_ylim()[1], 1.05 * largest))
    if _num_entries(chart):
        # Below the axes, where it can hide no value.
        corner = (0.5, (0.08 - BELOW) / HEIGHT)
        axes.legend(frameon=False, fontsize=8.5, loc="upper center", bbox_to_anchor=corner, ncols=2)


def _draw_line(axes: Axes, series: Series) -> None:
    marker: dict[str, Any] = {
        "marker": MARKERS[series.color % len(MARKERS)],
        "markersize": 4.5,
        "linewidth": 1.8,
    }
    looks: dict[Mark, dict[str, Any]] = {
        "line": marker,
        "points": {**marker, "linestyle": "none"},
        "star": {"marker": "*", "markersize": 13.8, "linestyle": "none", "zorder": 4},
        "dashed": {"color": MUTED, "linestyle": ":", "linewidth": 1.2},
    }
    axes.errorbar(
        series.points.x,
        series.points.y,
        yerr=series.error_lengths(),
        label=series.label,
        **{"color": LIGHT[series.color % len(LIGHT)], **ERROR_BARS, **looks[series.mark]},
    )


def _draw_bars(axes: Axes, series: Series, place: int, count: int) -> None:
    x, num_bars = series.points.x, len(series.points)
    width = 0.9 / num_bars
    if isinstance(x.iloc[0], str):
        width = 0.66 / count
        x = np.arange(num_bars) + (place - (count - 1) / 2) * width
    axes.bar(
        x,
        series.points.y,
        width=width,
        color=LIGHT[series.color % len(LIGHT)],
        yerr=series.error_lengths(),
        error_kw={**ERROR_BARS, "ecolor": INK},
        label=series.label,
    )
