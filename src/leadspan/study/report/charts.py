"""Each figure as numbers, labels and a caption; drawn alike by matplotlib (PNG, SVG) and by plotly."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd

from leadspan.runs import replacing
from leadspan.study.report.summary import (
    COST_LABELS,
    FULL,
    PAPER_RETENTION,
    Summary,
    say_count,
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
    x_is_share: bool = True
    """The x axis, where it holds numbers, runs from 0 to 1."""

    @property
    def names(self) -> list[str]:
        """The places of an x axis that holds names, in order; empty where it holds numbers."""
        values = (value for series in self.series for value in series.x)
        return list(dict.fromkeys(value for value in values if isinstance(value, str)))


def build_charts(summary: Summary) -> dict[str, Chart]:
    """Every chart that has something to show, by name, in the report's order."""
    charts = (
        *curve_charts(summary),
        frontier_chart(summary),
        *ablation_charts(summary),
        predicted_chart(summary),
        *(derivation_chart(dataset) for dataset in summary.results.datasets),
    )
    return {chart.name: chart for chart in charts if chart.series}


def curve_charts(summary: Summary) -> tuple[Chart, ...]:
    """Accuracy, retention and cost over lsp."""
    return (
        Chart(
            "accuracy",
            "Accuracy",
            "Mean accuracy over seeds against the share of each sequence that is kept; bars are 95 % "
            "intervals over seeds and problems.",
            "lsp",
            "accuracy",
            _over_lsp(summary, "accuracy"),
            _levels(summary, "base", "teacher"),
        ),
        Chart(
            "retention",
            "Retention",
            "Accuracy as a share of that of full sequences (lsp 1.0, same scored sections). The line is "
            f"the paper's mean at lsp 0.5, {PAPER_RETENTION}.",
            "lsp",
            "share of full accuracy",
            _over_lsp(summary, "retention"),
            [(f"paper at lsp 0.5: {PAPER_RETENTION}", PAPER_RETENTION)],
        ),
        Chart(
            "cost",
            "Cost",
            "Training time, memory and FLOPs as a share of full sequences. Below the dashed line a cut "
            "saves more than its share (attention is quadratic); memory holds weights and optimiser too, "
            "which no cut touches.",
            "lsp",
            "share of full cost",
            _with_diagonal("in proportion to lsp", _costs(summary.curve)),
        ),
    )


def ablation_charts(summary: Summary) -> tuple[Chart, ...]:
    """Settings side by side: sections, the prompt scored or not, the kept halves."""
    base = _levels(summary, "base")
    sections, halves, settings = summary.sections, summary.halves, summary.settings
    pairs = [settings.loc[[*pair]] for pair in zip(*(p.index for p in summary.pairs), strict=True)]
    prompt = [
        series
        for colour, pair in enumerate(pairs)
        for series in _estimated(pair.scored.iloc[0], pair, "at", "accuracy", colour, "bars")
    ]
    return (
        Chart(
            "sections",
            "Accuracy by scored sections",
            "Accuracy when the loss is taken on the named sections alone, everything in context (lsp "
            "1.0). P prompt, CoT chain of thought, A answer.",
            "scored sections",
            "accuracy",
            _estimated("accuracy", sections, "scored", "accuracy", 0, "bars"),
            base,
        ),
        Chart(
            "prompt",
            "Scoring the prompt too",
            "Accuracy at half and at full length, with the prompt scored (P+CoT+A, the paper's own "
            "setting) and without.",
            "",
            "accuracy",
            prompt if len(prompt) > 1 else (),
            base,
        ),
        Chart(
            "halves",
            "Accuracy by kept half",
            "Accuracy when the lead, middle or tail half of each sequence is kept (lsp 0.5).",
            "kept half",
            "accuracy",
            _estimated("accuracy", halves, "keep", "accuracy", 0, "bars"),
            base,
        ),
        Chart(
            "halves-loss",
            "Loss of each half",
            "Training loss (last part of the training) and best validation loss of the kept half, each "
            "on its own tokens.",
            "kept half",
            "loss, nats per scored token",
            [*_losses(halves, "training", 0), *_losses(halves, "validation", 1)],
        ),
    )


def _series(
    label: str,
    rows: pd.DataFrame,
    x: str,
    y: str,
    hover: Sequence[str],
    colour: int,
    mark: Mark = "line",
) -> list[Series]:
    """Columns `x` and `y` of the rows where `y` is known; nothing if nowhere."""
    known = rows.assign(hover=hover).dropna(subset=y)
    if known.empty:
        return []
    xs, ys, hovers = (known[name].tolist() for name in (x, y, "hover"))
    ends = (f"{y}_low", f"{y}_high")
    low, high = (known[end].tolist() if end in known else () for end in ends)
    return [Series(label, xs, ys, hovers, colour, mark, low, high)]


def _estimated(
    label: str, settings: pd.DataFrame, x: str, name: str, colour: int, mark: Mark
) -> list[Series]:
    """`accuracy` or `retention` of the settings, with intervals."""
    said = settings[["at" if x == "lsp" else x, f"{name}_said", "num_seeds"]]
    hover = [
        f"{place}: {estimate}, {say_count(num_seeds, 'seed')}"
        for place, estimate, num_seeds in said.itertuples(index=False)
    ]
    return _series(label, settings, x, name, hover, colour, mark)


def _over_lsp(summary: Summary, name: str) -> list[Series]:
    return [
        series
        for colour, curve in enumerate(summary.curves)
        for series in _estimated(
            f"{curve.scored.iloc[0]} scored", curve, "lsp", name, colour, "line"
        )
    ]


def _costs(curve: pd.DataFrame) -> list[Series]:
    series = []
    names = ("train_seconds", "peak_memory_gib", "peak_step_memory_gib", "train_flops")
    for colour, name in enumerate(names):
        label, share = COST_LABELS[name], f"{name}_ratio"
        shares = curve[["at", share]].itertuples(index=False)
        hover = [f"{at}: {value:.2f} of the {label}" for at, value in shares]
        series += _series(label, curve, "lsp", share, hover, colour)
    return series


def _losses(halves: pd.DataFrame, which: str, colour: int) -> list[Series]:
    name, label = {"training": "train_loss", "validation": "val_loss"}[which], f"{which} loss"
    losses = halves[["keep", name]].itertuples(index=False)
    hover = [f"{keep}: {label} {say_number(loss, 4)}" for keep, loss in losses]
    return _series(label, halves, "keep", name, hover, colour, "bars")


def _with_diagonal(label: str, series: list[Series]) -> list[Series]:
    return [*series, Series(label, (0.0, FULL), (0.0, FULL), mark="dashed")] if series else []


def _levels(summary: Summary, *kinds: str) -> list[tuple[str, float]]:
    labels = {"base": "untrained student", "teacher": "teacher"}
    scores = {kind: summary.accuracy_of(kind) for kind in kinds}
    return [(labels[kind], score) for kind, score in scores.items() if score is not None]


def frontier_chart(summary: Summary) -> Chart:
    """Accuracy over cost: all settings, the frontier, the recommended point."""
    name = summary.cost_name or "train_flops"
    scored = summary.settings.dropna(subset=["accuracy", name])
    is_shares = bool(scored[f"{name}_ratio"].notna().all())
    cost = f"{name}_ratio" if is_shares else name
    chosen = None if summary.recommended is None else summary.recommended.Index
    parts: tuple[tuple[str, pd.DataFrame, int, Mark], ...] = (
        ("every setting", scored, 5, "points"),
        ("frontier", summary.frontier, 0, "line"),
        ("recommended", scored[scored.index == chosen], 1, "star"),
    )
    series = []
    for label, rows, colour, mark in parts:
        hover = (rows.setting + ": " + rows.accuracy_said).tolist()
        bare = rows[[cost, "accuracy"]]
        series += _series(label, bare, cost, "accuracy", hover, colour, mark)
    label = COST_LABELS[name]
    return Chart(
        "frontier",
        "Pareto frontier",
        "Mean accuracy against cost. No setting on the frontier is beaten by another at the same or a "
        f"lower cost. Recommended: the smallest lsp that, like every larger one, keeps at least "
        f"{PAPER_RETENTION} of full accuracy.",
        f"{label}, share of lsp 1.0" if is_shares else label,
        "accuracy",
        series if summary.cost_name else (),
        x_is_share=False,
    )


def predicted_chart(summary: Summary) -> Chart:
    """Measured costs against those foretold."""
    series: list[Series] = []
    for name, found in summary.predictions.groupby("cost_name", sort=False):
        label = COST_LABELS[name]
        hover = [
            f"lsp {say_lsp(row.lsp)}: {label} predicted {row.predicted:.2f}, measured {row.measured:.2f}"
            for row in found.itertuples()
        ]
        series += _series(label, found, "predicted", "measured", hover, len(series), "points")
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
        _with_diagonal("measured = predicted", series),
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
    )


def name_of(dataset: Mapping[str, Any]) -> str:
    """What a dataset is called."""
    return str(dataset.get("name", "traces"))


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1c2430", "#5a6675", "#e3e7ec"
TRADEOFF = ("accuracy", "retention", "cost")
"""Panels of the figure that stands for the whole, as the paper's does."""
MARKERS = ("o", "s", "^", "D", "v", "P")
"""Told apart without colour."""
AXES_INCHES = (3.9, 2.7)
LEFT_INCHES, RIGHT_INCHES, ABOVE_INCHES, BELOW_INCHES = 0.65, 0.15, 0.35, 0.6
LEGEND_ROW_INCHES = 0.21
STYLE: dict[str, Any] = {
    "font.size": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "svg.hashsalt": "leadspan",
    "svg.fonttype": "none",
}


def draw_figures(charts: Mapping[str, Chart], folder: Path) -> dict[str, Path]:
    """Draw every chart, and the three of the tradeoff side by side.

    Returns:
        The PNG of each figure by name; an SVG of the same name lies beside it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    panels = [charts[name] for name in TRADEOFF if name in charts]
    wanted = {"tradeoff": panels} if len(panels) > 1 else {}
    wanted |= {name: [chart] for name, chart in charts.items()}
    return {name: _draw(chosen, folder / f"{name}.png") for name, chosen in wanted.items()}


def _draw(charts: Sequence[Chart], path: Path) -> Path:
    import matplotlib
    from matplotlib.figure import Figure

    rows = max(math.ceil(_num_entries(chart) / 2) for chart in charts)
    below = BELOW_INCHES + LEGEND_ROW_INCHES * rows
    height = ABOVE_INCHES + AXES_INCHES[1] + below
    step = LEFT_INCHES + AXES_INCHES[0] + RIGHT_INCHES
    with matplotlib.rc_context(cast(Any, STYLE)):
        # Fixed places instead of a layout engine, which takes longer than the drawing.
        figure: Figure = Figure(figsize=(step * len(charts), height))
        for place, chart in enumerate(charts):
            left, width = (place * step + LEFT_INCHES) / (step * len(charts)), AXES_INCHES[0]
            corner = (left, below / height, width / (step * len(charts)), AXES_INCHES[1] / height)
            draw_chart(figure.add_axes(corner), chart)
        for target in (path, path.with_suffix(".svg")):
            kind = target.suffix.removeprefix(".")
            metadata = {"Date": None} if kind == "svg" else None
            with replacing(target) as temporary:
                figure.savefig(temporary, format=kind, dpi=150, metadata=metadata)
    return path


def _num_entries(chart: Chart) -> int:
    """Entries of the legend; one alone needs none."""
    count = len(chart.series) + len(chart.levels)
    return count if count > 1 else 0


def draw_chart(axes: Axes, chart: Chart) -> None:
    """Draw one chart into one pair of axes."""
    names = chart.names
    bars = [series for series in chart.series if series.mark == "bars"]
    for series in chart.series:
        if series.mark == "bars":
            _draw_bars(axes, series, bars.index(series), len(bars), bool(names))
        else:
            _draw_line(axes, series)
    for place, (label, level) in enumerate(chart.levels):
        style = ("--", ":", "-.")[place % 3]
        axes.axhline(level, color=MUTED, linewidth=1.2, linestyle=style, label=label, zorder=1)
    if names:
        axes.set_xticks(range(len(names)), names)
    elif chart.x_is_share:
        axes.set_xlim(SHARE_AXIS)
    axes.set_title(chart.title, loc="left", fontweight="bold", fontsize=10.5)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(0, max(axes.get_ylim()[1], 1.05 * _largest(chart)))
    if _num_entries(chart):
        # Below the axes, where it can hide no value.
        corner = (0.5, -(BELOW_INCHES - 0.08) / AXES_INCHES[1])
        axes.legend(frameon=False, fontsize=8.5, loc="upper center", bbox_to_anchor=corner, ncols=2)


def _draw_line(axes: Axes, series: Series) -> None:
    x, y, label = series.x, series.y, series.label
    colour = LIGHT[series.colour % len(LIGHT)]
    if series.mark == "dashed":
        axes.plot(x, y, color=MUTED, linestyle=":", linewidth=1.2, label=label)
    elif series.mark == "star":
        axes.scatter(x, y, marker="*", s=190, color=colour, zorder=4, label=label)
    else:
        axes.errorbar(
            x,
            y,
            yerr=series.error_lengths(),
            color=colour,
            linestyle="none" if series.mark == "points" else "-",
            marker=MARKERS[series.colour % len(MARKERS)],
            markersize=4.5,
            linewidth=1.8,
            elinewidth=1.1,
            capsize=2.5,
            label=label,
        )


def _draw_bars(axes: Axes, series: Series, place: int, count: int, is_named: bool) -> None:
    if is_named:
        width = 0.66 / count
        shift = (place - (count - 1) / 2) * width
        x = [index + shift for index in range(len(series.x))]
    else:
        x = [float(value) for value in series.x]
        width = 0.9 / max(1, len(x))
    axes.bar(
        x,
        series.y,
        width=width,
        color=LIGHT[series.colour % len(LIGHT)],
        yerr=series.error_lengths(),
        error_kw={"elinewidth": 1.1, "capsize": 2.5, "ecolor": INK},
        label=series.label,
    )


def _largest(chart: Chart) -> float:
    values = [value for series in chart.series for value in series.y]
    return max([*values, *(level for _, level in chart.levels)], default=1.0)
