"""What the report says of on-policy runs: they against leads of traces, and what happens along a rollout.

Pure: computed from the summary's settings and what their runs logged; drawn by `charts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from leadspan.study.report.summary import Summary, compute_frontier, say_number, say_percent

ENOUGH = 0.95
"""Share of the best accuracy at which the families' costs are compared."""
ABOUT_EQUAL = 0.95
"""Costs at least so near are equal: a budget is spent to the nearest whole step."""
MOMENT = 0.2
"""Early and late: this share of the steps, at their beginning and at their end."""
MOST_PARTS = 20
"""Points of a line over the training."""


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """Settings that are compared as one: leads of traces over lsp, or rollouts over their horizon."""

    name: str
    points: pd.DataFrame
    """Rows of the summary's settings whose accuracy and FLOPs are known."""


@dataclass(frozen=True, slots=True, eq=False)
class Families:
    """Off-policy against on-policy, by all FLOPs of the training."""

    off_policy: Family
    on_policy: Family
    frontier: pd.DataFrame
    """Over both."""

    @property
    def both(self) -> tuple[Family, Family]:
        """Off-policy first."""
        return self.off_policy, self.on_policy

    @property
    def sentence(self) -> str:
        """Which reaches ENOUGH of the best accuracy more cheaply, and by how much."""
        every = pd.concat([family.points for family in self.both])
        enough = ENOUGH * every.accuracy.max()
        if not enough:
            return (
                "off-policy and on-policy cannot be compared by cost: no point has a correct answer"
            )
        goal = f"{say_percent(ENOUGH)} of the best accuracy ({say_number(enough)})"
        reached = [
            (family.name, next(found.itertuples()))
            for family in self.both
            if len(found := family.points[family.points.accuracy >= enough].nsmallest(1, COST))
        ]
        (name, point), *others = sorted(reached, key=lambda pair: float(getattr(pair[1], COST)))
        if others:
            ((other_name, other),) = others
            ratio = getattr(point, COST) / getattr(other, COST)
            if ratio > ABOUT_EQUAL:
                pair = f"{name} {point.point} and {other_name} {other.point}"
                return f"{goal}: {pair} cost about the same FLOPs"
            return (
                f"{goal}: {name} {point.point} costs {say_percent(ratio)} of the FLOPs of "
                f"{other_name} {other.point}"
            )
        if any(family.points.empty for family in self.both):
            return (
                f"{goal} is reached most cheaply with {point.point} ({point.train_flops:.3g} FLOPs)"
            )
        said = f"{goal}: only {name} reaches it, cheapest with {point.point} ({point.train_flops:.3g} FLOPs)"
        for family in self.both:
            if family.name != name:
                best = next(family.points.nlargest(1, "accuracy").itertuples())
                said += f"; the best {family.name} point, {best.point}, has {best.accuracy_said}"
        return said


COST = "train_flops"


def families_of(summary: Summary) -> Families | None:
    """The two families of a sweep; None where no on-policy run has accuracy and FLOPs."""
    known = summary.settings.dropna(subset=["accuracy", COST])
    leads = next((curve for curve in summary.curves if not curve.is_on_policy.any()), known[:0])
    off_policy = Family("off-policy", known[known.index.isin(leads.index)])
    on_policy = Family("on-policy", known[known.is_on_policy])
    if on_policy.points.empty:
        return None
    both = pd.concat([off_policy.points, on_policy.points])
    return Families(off_policy, on_policy, compute_frontier(both, COST))


@dataclass(frozen=True, slots=True, eq=False)
class StepMeans:
    """What the runs of one setting logged of their rollouts at each step, by tenth of the rollout."""

    point: str
    runs: tuple[Any, ...]

    def known(self, kind: str) -> bool:
        """True where every run logged it. `kind` is kd or entropy."""
        return all(f"{kind}_by_decile" in step for run in self.runs for step in run.rollout_steps)

    def _values(self, kind: str) -> list[np.ndarray]:
        """Of each run, [steps, tenths]."""
        key = f"{kind}_by_decile"
        return [np.array([step[key] for step in run.rollout_steps]) for run in self.runs]

    def by_decile(self, kind: str, moment: str) -> list[float]:
        """Ten means over the early or the late steps, and over the runs."""
        found = []
        for values in self._values(kind):
            count = max(1, round(MOMENT * len(values)))
            part = values[:count] if moment == "early" else values[-count:]
            found.append(part.mean(axis=0))
        means: list[float] = np.mean(found, axis=0).tolist()
        return means

    def over_training(self, kind: str) -> pd.DataFrame:
        """`step` and `mean` over tenths, of each part of the training."""
        steps = [np.array([step["step"] for step in run.rollout_steps]) for run in self.runs]
        return average_in_parts(steps, [values.mean(axis=1) for values in self._values(kind)])


def step_means_of(summary: Summary) -> list[StepMeans]:
    """Of every on-policy setting whose runs logged tenths, in the report's order."""
    rows = summary.settings[summary.settings.is_on_policy].itertuples()
    return [
        StepMeans(row.point, row.runs) for row in rows if all(r.rollout_steps for r in row.runs)
    ]


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
