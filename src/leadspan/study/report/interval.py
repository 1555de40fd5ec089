"""From runs to the scores whose means and ratios `leadspan.statistics` estimates. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leadspan.statistics import Floats, Interval, mean_interval, ratio_interval
from leadspan.study.results import Run, mean_of


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval; without grades of single problems both ends are None."""

    value: float
    low: float | None = None
    high: float | None = None


def estimate_mean(runs: Sequence[Run]) -> Estimate | None:
    """Mean accuracy of runs that differ in the seed alone; None without any."""
    value = mean_of(run.row.accuracy for run in runs)
    if value is None:
        return None
    problems = _common_problems(runs)
    return _estimate(value, mean_interval(_scores(runs, problems)) if problems else None)


def estimate_ratio(runs: Sequence[Run], reference: Sequence[Run]) -> Estimate | None:
    """Mean accuracy of `runs` as a share of that of `reference`; None where that is 0 or unknown.

    Paired problem by problem, and seed by seed where the seeds are the same.
    """
    above, below = (mean_of(run.row.accuracy for run in side) for side in (runs, reference))
    if above is None or not below:
        return None
    if runs == reference:
        return Estimate(1.0, 1.0, 1.0)
    problems = _common_problems([*runs, *reference])
    if not problems:
        return _estimate(above / below, None)
    return _estimate(
        above / below, ratio_interval(_scores(runs, problems), _scores(reference, problems))
    )


def _estimate(value: float, interval: Interval | None) -> Estimate:
    return Estimate(value, interval.low, interval.high) if interval else Estimate(value)


def _common_problems(runs: Sequence[Run]) -> list[str]:
    """The problems, `benchmark/problem`, where every run answered the same; else none."""
    first = runs[0].by_problem
    return sorted(first) if all(run.by_problem.keys() == first.keys() for run in runs) else []


def _scores(runs: Sequence[Run], problems: Sequence[str]) -> list[Floats]:
    """Scores [S, P] of each benchmark, the seeds in rising order."""
    runs = sorted(runs, key=lambda run: run.row.seed or 0)
    by_benchmark: dict[str, list[str]] = {}
    for problem in problems:
        by_benchmark.setdefault(problem.partition("/")[0], []).append(problem)
    return [
        np.array([[run.by_problem[problem] for problem in found] for run in runs])
        for found in by_benchmark.values()
    ]
