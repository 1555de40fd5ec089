"""Statistics of repeated samples on a set of problems. Pure numpy; knows nothing about files.

Shape suffixes: P problems, R bootstrap replicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REPLICATES = 10_000


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval."""

    value: float
    low: float
    high: float


def bootstrap_mean(
    scores: Sequence[NDArray[np.float64]], confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Mean over benchmarks of the mean over problems, with problems resampled within each.

    Args:
        scores: One array [P] a benchmark, each problem's mean over its samples: resampling
            problems rather than samples is what makes the interval one over problems.
        confidence: In (0, 1).
        seed: Of the resampling.
    """
    generator = np.random.default_rng(seed)
    replicates_R = np.zeros(REPLICATES)
    for score_P in scores:
        size = len(score_P)
        for start in range(0, REPLICATES, 1000):
            picks = generator.integers(0, size, (min(1000, REPLICATES - start), size))
            replicates_R[start : start + len(picks)] += score_P[picks].mean(axis=1) / len(scores)
    value = float(np.mean([score_P.mean() for score_P in scores]))
    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates_R, [tail, 1 - tail])
    return Interval(value, float(min(low, value)), float(max(high, value)))
