"""95 % intervals of a mean accuracy over seeds and problems, and of a ratio of two such means.

Both sources of chance are counted: the spread between seeds, and that the problems are a sample. The
variances are added, which errs on the wide side (what a seed does to single problems counts twice).
Student's t, with Satterthwaite's degrees of freedom, pays for a spread known from few seeds; with one seed
only the problems can be counted. Pure; knows nothing about files.

Shape suffixes: S seeds, P problems.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from leadspan.study.results import Run

TWO_SIDED = 0.975
MANY = 1e9
"""Degrees of freedom at which Student's t is the normal distribution."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval; without one, both ends are None."""

    value: float
    low: float | None = None
    high: float | None = None
    num_seeds: int = 1


@dataclass(frozen=True, slots=True)
class Variance:
    """Variance of a mean from the seeds (None for one seed) and from the problems (None: unknown)."""

    of_seeds: float | None
    of_problems: float | None
    num_seeds: int


def estimate_mean(runs: Sequence[Run]) -> Estimate | None:
    """Mean accuracy of runs that differ in the seed alone, inside [0, 1]; None without any."""
    scores_S = _accuracies(runs)
    if not len(scores_S):
        return None
    variance = Variance(_spread(scores_S), _problem_variance(runs), len(scores_S))
    value = float(scores_S.mean())
    width = half_width(variance)
    if width is None:
        return Estimate(value, num_seeds=len(scores_S))
    return Estimate(value, max(0.0, value - width), min(1.0, value + width), len(scores_S))


def estimate_ratio(runs: Sequence[Run], reference: Sequence[Run]) -> Estimate | None:
    """Mean accuracy of `runs` as a share of that of `reference`.

    Linearised: the variance is that of the differences `run - ratio * reference`, taken seed by seed
    where the seeds are the same and problem by problem where the grades are at hand.
    """
    above_S, below_S = _accuracies(runs), _accuracies(reference)
    if not len(above_S) or not len(below_S) or below_S.mean() <= 0:
        return None
    value, scale = float(above_S.mean() / below_S.mean()), float(below_S.mean()) ** 2
    if runs == reference:
        return Estimate(1.0, 1.0, 1.0, len(above_S))
    of_seeds = _seed_variance_of_ratio(runs, reference, value)
    of_problems = _problem_variance_of_ratio(runs, reference, value)
    num_seeds = min(len(above_S), len(below_S))
    width = half_width(
        Variance(
            None if of_seeds is None else of_seeds / scale,
            None if of_problems is None else of_problems / scale,
            num_seeds,
        )
    )
    if width is None:
        return Estimate(value, num_seeds=num_seeds)
    return Estimate(value, max(0.0, value - width), value + width, num_seeds)


def half_width(variance: Variance) -> float | None:
    """Half of the 95 % interval; None where nothing is known about the spread."""
    seeds, problems = variance.of_seeds, variance.of_problems
    if seeds is None and problems is None:
        return None
    total = (seeds or 0.0) + (problems or 0.0)
    if not seeds or not total:
        return float(stats.norm.ppf(TWO_SIDED)) * math.sqrt(total)
    freedom = min(MANY, (variance.num_seeds - 1) * (total / seeds) ** 2)
    return float(stats.t.ppf(TWO_SIDED, freedom)) * math.sqrt(total)


def _accuracies(runs: Sequence[Run]) -> NDArray[np.float64]:
    return np.array([run.row.accuracy for run in runs if run.row.accuracy is not None], float)


def _spread(values_S: NDArray[np.float64]) -> float | None:
    """Variance of the mean of independent values; None for one value."""
    return float(values_S.var(ddof=1) / len(values_S)) if len(values_S) > 1 else None


def _problem_variance(runs: Sequence[Run]) -> float | None:
    """From each problem's mean over the seeds; for one run, or without grades, from its own interval.

    All runs answer the same problems, so more seeds do not make the problems more.
    """
    scores = _mean_by_problem(runs)
    if len(runs) > 1 and scores:
        return _spread_over_problems(scores)
    widths = [
        (run.row.accuracy_high - run.row.accuracy_low) / 2
        for run in runs
        if run.row.accuracy_low is not None and run.row.accuracy_high is not None
    ]
    return (float(np.mean(widths)) / 1.96) ** 2 if widths else None


def _spread_over_problems(values: Mapping[str, float]) -> float:
    """Variance of the mean over benchmarks of the mean over their problems, `benchmark/problem`."""
    by_benchmark: dict[str, list[float]] = {}
    for key, value in values.items():
        by_benchmark.setdefault(key.partition("/")[0], []).append(value)
    spreads = [_spread(np.array(found)) for found in by_benchmark.values()]
    return sum(spread or 0.0 for spread in spreads) / len(spreads) ** 2


def _seed_variance_of_ratio(
    runs: Sequence[Run], reference: Sequence[Run], ratio: float
) -> float | None:
    above = {run.row.seed: run.row.accuracy for run in runs}
    below = {run.row.seed: run.row.accuracy for run in reference}
    if above.keys() == below.keys() and len(above) == len(runs) == len(reference):
        pairs = [(above[seed], below[seed]) for seed in above]
        gaps = [high - ratio * low for high, low in pairs if high is not None and low is not None]
        return _spread(np.array(gaps))
    parts = _spread(_accuracies(runs)), _spread(_accuracies(reference))
    if parts[0] is None or parts[1] is None:
        return None
    return parts[0] + ratio**2 * parts[1]


def _problem_variance_of_ratio(
    runs: Sequence[Run], reference: Sequence[Run], ratio: float
) -> float | None:
    above, below = _mean_by_problem(runs), _mean_by_problem(reference)
    if above and above.keys() == below.keys():
        return _spread_over_problems({key: above[key] - ratio * below[key] for key in above})
    parts = _problem_variance(runs), _problem_variance(reference)
    if parts[0] is None or parts[1] is None:
        return None
    return parts[0] + ratio**2 * parts[1]


def _mean_by_problem(runs: Sequence[Run]) -> dict[str, float]:
    """Mean over seeds of each problem's score, for the problems that all runs answered."""
    if not runs:
        return {}
    shared = set(runs[0].by_problem).intersection(*(run.by_problem for run in runs))
    return {key: float(np.mean([run.by_problem[key] for run in runs])) for key in sorted(shared)}
