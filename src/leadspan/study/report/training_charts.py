"""Figures about the training itself: along the rollouts, and losses over the steps."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from leadspan.study.report.chart import NUM_COLORS, Chart, Mark, Series, build_series
from leadspan.study.report.on_policy import StepMeans, average_in_parts, step_means_of
from leadspan.study.report.summary import Summary

Which = Literal["losses", "val_losses"]
"""Fields of `study.results.Run`."""


def settings_with_losses(summary: Summary) -> list[Any]:
    """Settings whose runs all logged their losses, in the report's order."""
    return [row for row in summary.settings.itertuples() if all(run.losses for run in row.runs)]


def average_losses(setting: Any, which: Which) -> pd.DataFrame:
    """`step` and `mean` of a setting's training or validation losses; no rows where a run has none."""
    runs = [np.array(getattr(run, which)) for run in setting.runs]
    if not all(map(len, runs)):
        return pd.DataFrame({"step": [], "mean": []})
    return average_in_parts([run[:, 0] for run in runs], [run[:, 1] for run in runs])


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
            series.append(build_series(setting.setting, rows, "step", "mean", hover, color))
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
    return build_series(f"{means.point}, {moment}", rows, "place", "mean", hover, color, mark)


def _over_training(means: StepMeans, kind: str, color: int) -> Series:
    rows = means.over_training(kind)
    hover = [
        f"{means.point}, step {row.step:.0f}: {row.mean:.3g} nats" for row in rows.itertuples()
    ]
    return build_series(means.point, rows, "step", "mean", hover, color)
