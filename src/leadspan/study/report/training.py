"""How training went: losses over the steps, averaged over seeds. Pure; drawn by `charts`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from leadspan.study.report.summary import Summary

MOST_PARTS = 20
"""Points of a line over the training."""


def average_in_parts(steps: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> pd.DataFrame:
    """Mean of each of at most MOST_PARTS equal parts of the training, then over runs.

    Args:
        steps: Of each run, in order; none is empty.
        values: What each run had at these steps.

    Returns:
        `step` and `mean`.
    """
    count = min(MOST_PARTS, *map(len, steps))

    def average(runs: Sequence[np.ndarray]) -> np.ndarray:
        parts = [[part.mean() for part in np.array_split(run, count)] for run in runs]
        averaged: np.ndarray = np.mean(parts, axis=0)
        return averaged

    return pd.DataFrame({"step": average(steps), "mean": average(values)})


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
